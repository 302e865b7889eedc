"""--compile: where it is used, that it changes no result but by rounding, and that no file shows it."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_study import (
    IMAGE_SIZE,
    feed_of,
    options,
    plain_standardiser,
    rows_of,
    run,
    small_encoder,
    trainer_of,
    write_volumes,
)
from safetensors.torch import load_file
from torch._dynamo.exc import TorchDynamoException

from classify.run.folder import load_run
from embeddings_store.errors import UsageError
from extract.errors import DeviceError
from finetune.data.images import ImageCache
from finetune.model.checkpoint import load_classifier
from finetune.model.lora import remove_lora
from finetune.model.network import VolumeClassifier, host_weights
from finetune.recipe.load import load_config
from finetune.run import prepared
from finetune.training.loop import train_stage
from finetune.training.resume import StateFolder
from finetune.training.stages import set_trainable

ROUNDING = 2e-5
LABELS = [0, 1] * 3


BY_TORCH = """
import functools, sys, torch
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_finetune_compile as tests
torch.compile = functools.partial(torch.compile, backend="aot_eager")
for stage, recompute in (("all", False), ("lora", True)):
    tests.compare(Path({folder!r}) / f"{{stage}}-{{recompute}}", stage, recompute=recompute)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name what is compiled; it is called as it is."""
    seen: list[str] = []

    def stand_in(module: Any) -> Any:
        seen.append(type(module).__name__)
        return partial(module)

    monkeypatch.setattr(torch, "compile", stand_in)
    return seen


def trained(folder: Path, stage: str, compiled: str, *, recompute: bool) -> dict[str, torch.Tensor]:
    """Two epochs of a stage with paths dropped and a last batch that is smaller; weights and state names follow."""
    changes = ("batch_size=4", f"stages.{stage}.augment=0", f"stages.{stage}.drop_path=0.5",
               f"stages.{stage}.encoder_learning_rate=1e-3", f"recompute={recompute}".lower())  # fmt: skip
    config = load_config(None, changes=changes, epochs=2)
    encoder, images = small_encoder(), ImageCache(folder / "images", "none", "float32")
    volumes = np.random.default_rng(0).normal(size=(6, 1, *IMAGE_SIZE)).astype(np.float32)
    ids = write_volumes(images, volumes)
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 2, 0, config.head)
    set_trainable(model, config.stages.find(stage))
    feeds = [feed_of(images, rows_of(LABELS, split, ids), config, 2) for split in ("train", "val")]
    state = StateFolder(folder / "state")
    train_stage(trainer_of(model, config, 2, compiled=compiled, state=state), stage, *feeds, [])
    saved = state.load()
    assert saved is not None
    assert not [name for name in (*saved.tensors.model, *saved.best.weights) if "_orig_mod" in name]
    assert set(saved.tensors.model) == set(model.state_dict())
    assert model.encode is None
    remove_lora(model.encoder)
    return host_weights(model)


def compare(folder: Path, stage: str, *, recompute: bool) -> None:
    plain, ours = (trained(folder / mode, stage, mode, recompute=recompute) for mode in ("auto", "on"))
    assert ours.keys() == plain.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(ours[name], weight, atol=ROUNDING, rtol=0, msg=name)


@pytest.mark.long
def test_a_compiled_training_gives_the_same_weights(tmp_path: Path) -> None:
    """In a process without the checks of types, through which torch.compile cannot see; without the minute of C++."""
    code = BY_TORCH.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0


def test_it_is_used_where_volumes_pass_the_encoder_and_auto_leaves_a_cpu_alone(
    tmp_path: Path, compiles: list[str]
) -> None:
    trained(tmp_path / "auto", "all", "auto", recompute=False)
    assert compiles == []
    trained(tmp_path / "on", "all", "on", recompute=True)
    assert compiles == ["Transformer"]


def test_a_compiled_run_is_read_and_goes_on_without(phantom: Path, tmp_path: Path, compiles: list[str]) -> None:
    config = load_config(None, changes=("stages.last.augment=0", "stages.last.drop_path=0"), epochs=1)
    done = run(phantom, tmp_path / "on", stages=("head", "last"), config=config, compiled="on")
    plain = run(phantom, tmp_path / "off", stages=("head", "last"), config=config, compiled="off")
    assert compiles == ["Transformer"], "the head learns from vectors, where nothing is to be compiled"
    files = [load_file(one.folder / "model" / "encoder.safetensors") for one in (done, plain)]
    assert files[0].keys() == files[1].keys()
    for name in files[1]:
        torch.testing.assert_close(files[0][name], files[1][name], atol=ROUNDING, rtol=0, msg=name)
    volumes = torch.randn(2, 1, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    answers = [load_classifier(load_run(one.folder)).logits(volumes, ["", ""]) for one in (done, plain)]
    torch.testing.assert_close(answers[0], answers[1], atol=1e-4, rtol=0)
    assert (done.record.fitted.parameters["compile"], plain.record.fitted.parameters["compile"]) == ("on", "off")


def failing(module: Any) -> Callable[..., Any]:
    def forward(*_: Any) -> Any:
        raise TorchDynamoException("no compiler here")

    return forward


def test_what_cannot_be_compiled_is_refused_or_named(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--compile on: parts of a model that fsdp splits are not compiled"):
        options(phantom, tmp_path, compiled="on", parallel="fsdp")
    opened = prepared.open_trainer

    def static(*words: Any, **more: Any) -> Any:
        backend = opened(*words, **more)
        backend.name, backend.static_shapes = "xla", True
        return backend

    with monkeypatch.context() as patched, pytest.raises(UsageError, match="device xla compiles by itself"):
        patched.setattr(prepared, "open_trainer", static)
        run(phantom, tmp_path / "runs", stages=("last",), compiled="on")
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(DeviceError, match=r"--compile on: torch.compile failed .*no compiler here"):
        run(phantom, tmp_path / "runs", stages=("last",), compiled="on")


def test_the_key_of_a_run_is_the_same_with_and_without(phantom: Path, tmp_path: Path) -> None:
    encoder = small_encoder()
    keys = {options(phantom, tmp_path, compiled=mode).key(encoder) for mode in ("auto", "on", "off")}
    assert len(keys) == 1
