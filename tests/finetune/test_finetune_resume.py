"""A run that is killed with SIGKILL goes on where it was, and ends with the very same weights."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_study import TINY, options, plain_standardiser, run, small_encoder, trainer_of
from safetensors.torch import load_file

from classify.errors import RunFolderError
from embeddings_store.errors import RunError
from extract.encoder.open import open_encoder
from finetune.errors import StoppedError
from finetune.model.lora import remove_lora
from finetune.model.network import VolumeClassifier, host_weights
from finetune.parallel.processes import OneProcess
from finetune.recipe.load import load_config
from finetune.run import workplace
from finetune.run.workplace import work_folder
from finetune.training import loop
from finetune.training.epochs import BestWeights, Epoch
from finetune.training.resume import STATES, Position, StateFolder, collect_tensors
from finetune.training.run_stages import Feeds, train_stages
from finetune.training.stages import new_optimiser, set_trainable

OWN = ("rotation_degrees", "scaling", "shift", "contrast", "noise")
CONFIG = load_config(  # without MONAI, whose import takes longer than the training
    None,
    changes=("save_every_steps=2", "batch_size=4", "augment.mixup=0.3", "stages.lora.drop_path=0.2",
             *(f"augment.{name}=0" for name in OWN)),
    epochs=2,
)  # fmt: skip
STEPS_AN_EPOCH = 16 // 4


def kill_at(where: tuple[str, int, int], stages: tuple[str, ...], bucket: Path, runs: Path) -> None:
    """Run in a process of its own, which kills itself with SIGKILL after a step."""
    child = multiprocessing.get_context("fork").Process(target=run_until, args=(where, stages, bucket, runs))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


def run_until(where: tuple[str, int, int], stages: tuple[str, ...], bucket: Path, runs: Path) -> None:
    """Kill this process after a step of an epoch of a stage."""
    torch.set_num_threads(1)
    *epoch, last = where
    steps: list[None] = []
    current: list[Any] = []
    take_step, run_epoch = loop._take_step, loop._run_epoch

    def counted(*given: Any, **named: Any) -> Any:
        found = take_step(*given, **named)
        steps.append(None)
        if current == epoch and len(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def watched(trainer: Any, parallel: Any, optimiser: Any, feed: Any, position: Position) -> Any:
        current[:] = [position.stage, position.epoch]
        steps.clear()
        return run_epoch(trainer, parallel, optimiser, feed, position)

    loop._take_step, loop._run_epoch = counted, watched
    run(bucket, runs, stages=stages, config=CONFIG)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "encoder.safetensors") | load_file(folder / "model" / "head.safetensors")


@pytest.mark.parametrize(
    ("stages", "kill", "steps_left"),
    [
        (("head", "last"), ("last", 2, 3), STEPS_AN_EPOCH - 2),
        (("lora",), ("lora", 1, 3), 2 * STEPS_AN_EPOCH - 2),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stages: tuple[str, ...],
    kill: tuple[str, int, int],
    steps_left: int,
) -> None:
    whole = run(phantom, tmp_path / "whole", stages=stages, config=CONFIG)
    kill_at(kill, stages, phantom, tmp_path / "killed")
    (work,) = (tmp_path / "killed").iterdir()
    assert work.name.startswith(".finetune-")
    taken: list[int] = []
    monkeypatch.setattr(loop, "_take_step", lambda *a, _real=loop._take_step, **k: taken.append(1) or _real(*a, **k))
    resumed = run(phantom, tmp_path / "killed", stages=stages, config=CONFIG)
    assert len(taken) == steps_left, "it began anew"
    ours, theirs = weights_of(resumed.folder), weights_of(whole.folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.record.fitted.parameters["history"] == whole.record.fitted.parameters["history"]
    assert resumed.record.judged.metrics == whole.record.judged.metrics
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [resumed.record.id]


@pytest.mark.parametrize(
    ("signalled", "place"), [(2, "_take_step"), (STEPS_AN_EPOCH, "_take_step"), (1, "_judge_epoch")]
)
def test_a_signal_saves_the_state_within_a_step(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: int, place: str
) -> None:
    """After a step within an epoch, after its last one, and while it is judged."""
    config = load_config(None, changes=("save_every_steps=100", "batch_size=4", "stages.last.augment=0"), epochs=2)
    whole = run(phantom, tmp_path / "whole", stages=("last",), config=config)
    calls: list[int] = []
    real = getattr(loop, place)

    def counted(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **more)

    handlers = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched, pytest.raises(StoppedError, match="SIGTERM: the training state") as stopped:
        patched.setattr(loop, place, counted)
        run(phantom, tmp_path / "stopped", stages=("last",), config=config)
    assert stopped.value.exit_code == 143
    assert len(calls) == signalled
    assert signal.getsignal(signal.SIGTERM) is handlers
    taken: list[int] = []
    monkeypatch.setattr(loop, "_take_step", lambda *a, _real=loop._take_step, **k: taken.append(1) or _real(*a, **k))
    resumed = run(phantom, tmp_path / "stopped", stages=("last",), config=config)
    done = signalled if place == "_take_step" else STEPS_AN_EPOCH
    assert len(taken) == 2 * STEPS_AN_EPOCH - done
    ours, theirs = weights_of(resumed.folder), weights_of(whole.folder)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.record.fitted.parameters["history"] == whole.record.fitted.parameters["history"]


def parts(folder: Path) -> tuple[VolumeClassifier, torch.optim.Optimizer, StateFolder]:
    encoder = small_encoder()
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 2, seed=0)
    stage = CONFIG.stages.all
    set_trainable(model, stage)
    return model, new_optimiser(model, stage), StateFolder(folder / "state", "inputs")


def test_a_state_reads_back_as_it_was_and_replaces_the_one_before(tmp_path: Path) -> None:
    model, optimiser, state = parts(tmp_path)
    sum(weight.square().sum() for weight in model.parameters() if weight.requires_grad).backward()
    optimiser.step()
    best = BestWeights()
    best.offer(Epoch("head", 1, 0.1, None, 0.3, 1e-3), model)
    position = Position("all", 2, 5, 0.1 + 0.2, (Epoch("head", 1, 1 / 3, 0.5, 0.7),))
    assert state.load() is None
    tensors = collect_tensors(model, optimiser)
    state.save(replace(position, step=4), tensors, best)
    state.save(position, tensors, best)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["000002"]
    saved = state.load()
    assert saved is not None
    assert (saved.position, saved.best.epoch) == (position, best.epoch)
    assert all(torch.equal(saved.tensors.model[name], weight) for name, weight in host_weights(model).items())
    assert any(name.endswith("/exp_avg_sq") for name in saved.tensors.optimiser)
    assert not list(tmp_path.rglob("*.p*k*l*"))


def test_a_state_of_other_inputs_is_not_gone_on_from(tmp_path: Path) -> None:
    model, optimiser, state = parts(tmp_path)
    state.save(Position("all"), collect_tensors(model, optimiser), BestWeights())
    assert state.load() is not None
    assert replace(state, inputs="others").load() is None


def test_a_half_written_state_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimiser, state = parts(tmp_path)
    state.save(Position("all", 3), collect_tensors(model, optimiser), BestWeights())
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"cannot be written .*No space left"):
        state.save(Position("all", 4), collect_tensors(model, optimiser), BestWeights())
    saved = state.load()
    assert saved is not None
    assert saved.position.epoch == 3


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimiser.safetensors"])
def test_a_damaged_state_is_refused(tmp_path: Path, name: str) -> None:
    model, optimiser, state = parts(tmp_path)
    state.save(Position("all"), collect_tensors(model, optimiser), BestWeights())
    (tmp_path / "state" / "000001" / name).write_bytes(b"{")
    with pytest.raises(RunError, match=r"damaged .*delete it to begin again"):
        state.load()


def zero_tail(path: Path) -> None:
    """Leave a file as a full disk or a lost page would: as long as before, and readable."""
    body = path.read_bytes()
    path.write_bytes(body[:-64] + bytes(64))


def other_loss(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"loss": 0.5', b'"loss": 0.1'))


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimiser.safetensors", "best.safetensors"])
def test_a_state_that_reads_well_and_is_another_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    model, optimiser, state = parts(tmp_path)
    best = BestWeights()
    best.offer(Epoch("head", 1, 0.1, None, 0.3, 1e-3), model)
    sum(weight.square().sum() for weight in model.parameters() if weight.requires_grad).backward()
    optimiser.step()
    state.save(Position("all", 2, 1, 0.5), collect_tensors(model, optimiser), best)
    file = tmp_path / "state" / "000001" / name
    kept = file.read_bytes()
    (other_loss if name == "state.json" else zero_tail)(file)
    assert file.read_bytes() != kept
    with pytest.raises(RunError, match=rf"damaged \({name}: its checksum is another\); restore it, or delete it"):
        state.load()
    assert state.exists
    file.write_bytes(kept)
    (file.parent / ".DS_Store").write_bytes(b"x")
    assert state.load() is not None


def test_a_state_of_before_sums_were_kept_is_gone_on_from(tmp_path: Path) -> None:
    model, optimiser, state = parts(tmp_path)
    state.save(Position("all", 3), collect_tensors(model, optimiser), BestWeights())
    path = tmp_path / "state" / "000001" / "state.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps({name: words[name] for name in ("inputs", "position", "best")}))
    saved = state.load()
    assert saved is not None
    assert saved.position.epoch == 3


def apart(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name weights as before queries, keys and values were packed."""
    found = {}
    for name, tensor in weights.items():
        pieces = tensor.chunk(3) if ".attn.qkv." in name and not name.endswith("down") else [tensor] * 3
        for letter, piece in zip("qkv", pieces, strict=True):
            found[name.replace(".attn.qkv.", f".attn.{letter}.")] = piece.clone()
    return found


@pytest.mark.parametrize("stage", ["lora", "all"])
@pytest.mark.parametrize("with_best", [True, False])
def test_a_state_of_before_the_weights_were_packed_is_refused_in_a_line(
    tmp_path: Path, stage: str, with_best: bool
) -> None:
    encoder = small_encoder()
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 2, seed=0)
    best = BestWeights(Epoch("head", 1, 0.1, None, 0.3), apart(host_weights(model))) if with_best else BestWeights()
    set_trainable(model, CONFIG.stages.find(stage))
    optimiser = new_optimiser(model, CONFIG.stages.find(stage))
    state = StateFolder(tmp_path / "state")
    state.save(Position(stage), replace(collect_tensors(model, optimiser), model=apart(host_weights(model))), best)
    remove_lora(model.encoder)
    trainer = trainer_of(model, CONFIG, 2, state=state)
    feeds = object.__new__(Feeds)  # nothing is fed
    with pytest.raises(RunError, match=r"000001 has other weights .*such as encoder.blocks.0.attn.*delete it to begin"):
        train_stages(trainer, (stage,), feeds)
    assert state.exists


def test_two_runs_of_the_same_kind_do_not_share_a_state(tmp_path: Path) -> None:
    with (
        work_folder(tmp_path, "0", OneProcess()),
        pytest.raises(RunFolderError, match="running there already"),
        work_folder(tmp_path, "0", OneProcess()),
    ):
        pass
    with work_folder(tmp_path, "0", OneProcess()):
        pass


def test_a_kill_while_the_folder_is_removed_leaves_no_half_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, **_: object) -> None:
        assert folder.is_dir()
        raise SystemExit

    monkeypatch.setattr(workplace.shutil, "rmtree", killed)
    with pytest.raises(SystemExit), work_folder(tmp_path, "0", OneProcess()) as folder:
        (folder / STATES / "000004").mkdir(parents=True)
    assert not StateFolder(folder / STATES).exists
    monkeypatch.undo()
    with work_folder(tmp_path, "0", OneProcess()):
        pass
    assert not folder.exists()


def test_what_decides_the_weights_is_in_the_key(phantom: Path, tmp_path: Path) -> None:
    asked = options(phantom, tmp_path)
    encoder = open_encoder(**TINY.arguments())
    others = [
        replace(asked, seed=1), replace(asked, stages=("head",)), replace(asked, limit=5),
        replace(asked, config=CONFIG), replace(asked, task="healthy-vs-rest"),
    ]  # fmt: skip
    assert len({each.key(encoder) for each in (asked, *others)}) == 6
    assert replace(asked, runs=tmp_path / "x", replicates=3, cache_dir=tmp_path).key(encoder) == asked.key(encoder)
