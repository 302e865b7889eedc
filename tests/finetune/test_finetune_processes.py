"""Two processes that share every batch end where one process ends, whichever way they hold the model."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_study import (
    IMAGE_SIZE,
    NOW,
    feed_of,
    options,
    plain_standardiser,
    rows_of,
    run,
    scans,
    small_encoder,
    write_volumes,
)
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from classify.run.folder import load_run
from embeddings_store.errors import RunError, UsageError
from embeddings_store.schema import VolumeFailure
from extract.device.tpu import TpuHost
from extract.load import FailedVolume
from extract.rank import find_launched
from finetune.data import volumes
from finetune.data.images import ImageCache
from finetune.data.sampling import Draw
from finetune.model.network import VolumeClassifier, whole
from finetune.parallel.processes import (
    OneProcess,
    Processes,
    TorchProcesses,
    TpuHosts,
    meeting_place,
    open_processes,
    require_one_process,
    require_several_processes,
)
from finetune.parallel.sharing import start_parallel
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.train import finetune
from finetune.training import loop
from finetune.training.stages import set_trainable
from finetune.training.step import add_gradients

OWN = ("rotation_degrees", "scaling", "shift", "contrast", "noise")
QUIET = ("stages.all.drop_path=0", "stages.all.weight_decay=0", "stages.lora.drop_path=0", "stages.last.drop_path=0")
# 16 volumes of train in batches of 5 over two processes: shares of 3 and 2 in forwards of 2 and 1; then a lone volume.
CONFIG = load_config(
    None,
    changes=("batch_size=5", "micro_batch_size=2", "recompute=true", *QUIET, *(f"augment.{name}=0" for name in OWN)),
    epochs=2,
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def in_two_processes(work: Callable[..., None], *arguments: Any) -> list[int]:
    """Run work(rank, processes, *arguments) as torchrun would; give the exit codes."""
    context, port = multiprocessing.get_context("fork"), free_port()
    children: list[Any] = [context.Process(target=joined, args=(work, rank, port, *arguments)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


def joined(work: Callable[..., None], rank: int, port: int, *arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    together = open_processes("cpu")
    assert isinstance(together, TorchProcesses)
    work(together, *arguments)


def train(together: Processes, bucket: Path, runs: Path, config: FinetuneConfig, stages: tuple[str, ...]) -> None:
    assert together.gather(together.rank) == [0, 1]
    assert list(together.share(range(5))) == [[0, 2, 4], [1, 3]][together.rank]
    done = finetune(
        options(bucket, runs, config=config, stages=stages), now=NOW, tell=lambda line: None, processes=together
    )
    assert (done is None) == (together.rank > 0)


def same_weights(one: Path, two: Path) -> None:
    for name in ("head", "encoder"):
        ours, theirs = (load_file(place / "model" / f"{name}.safetensors") for place in (one, two))
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[key], theirs[key], atol=1e-5) for key in ours)
    said = [load_run(place).predictions.filter(regex="logit") for place in (one, two)]
    np.testing.assert_allclose(*said, atol=1e-4)
    histories = [load_run(place).record.fitted.parameters["history"] for place in (one, two)]
    assert [len(history) for history in histories] == [len(histories[0])] * 2
    for epochs in zip(*histories, strict=True):
        assert epochs[0]["train_loss"] == pytest.approx(epochs[1]["train_loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("parallel", "head", "stages"),
    [("ddp", {"kind": "linear"}, ("head", "all")), ("fsdp", {"kind": "mlp", "dropout": 0.0}, ("head", "last"))],
)
def test_two_processes_end_with_the_weights_of_one(
    phantom: Path, tmp_path: Path, parallel: str, head: dict[str, object], stages: tuple[str, ...]
) -> None:
    config = FinetuneConfig.model_validate(CONFIG.model_dump() | {"parallel": parallel, "head": head})
    alone = run(phantom, tmp_path / "one", config=config, stages=stages)
    assert in_two_processes(train, phantom, tmp_path / "two", config, stages) == [0, 0]
    (folder,) = (tmp_path / "two").iterdir()
    assert load_run(folder).record.fitted.parameters["processes"] == 2
    same_weights(alone.folder, folder)


def gradients(processes: Processes, folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Of one batch of five, in forwards of two, as all processes have them together."""
    rng, images = np.random.default_rng(0), ImageCache(folder / f"images{processes.rank}", "none", "float32")
    ids = write_volumes(images, rng.normal(size=(5, 1, *IMAGE_SIZE)))
    encoder = small_encoder()
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 3, 0)
    set_trainable(model, CONFIG.stages.last)
    parallel = start_parallel(model, name, processes, shared=True)
    feed = feed_of(images, rows_of([0, 1, 2, 0, 1], "train", ids), CONFIG, 3)
    mine = processes.share([Draw(row, 0) for row in range(5)] + [Draw(0, 0, counts=False)] * (processes.size - 1))
    parts = list(feed.batches([mine[start : start + 2] for start in range(0, len(mine), 2)]))
    parallel.model.set_training(statistics=False)
    loss = parallel.sum(float(add_gradients(parallel, feed, parts, 5)))
    found = {n: whole(w.grad) for n, w in parallel.model.named_parameters() if w.grad is not None}
    if processes.size > 1 and name == "fsdp":
        shards = [weight.to_local() for weight in parallel.model.parameters() if isinstance(weight, DTensor)]
        share = sum(map(torch.numel, shards)) / sum(map(torch.numel, model.parameters()))
        assert 0.4 < share < 0.6  # each holds its half
    assert found.keys() == {n for n, w in model.named_parameters() if w.requires_grad}
    return found | {"loss": torch.tensor(loss)}


def keep_gradients(together: Processes, folder: Path, name: str) -> None:
    found = gradients(together, folder, name)
    if together.rank == 1:  # that of the first is the same
        save_file({key: value.contiguous() for key, value in found.items()}, folder / "gradients.safetensors")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_batch_over_two_processes_has_the_gradients_of_one(tmp_path: Path, parallel: str) -> None:
    alone = gradients(OneProcess(), tmp_path, parallel)
    assert in_two_processes(keep_gradients, tmp_path, parallel) == [0, 0]
    together = load_file(tmp_path / "gradients.safetensors")
    assert alone.keys() == together.keys()
    assert max(float(value.abs().max()) for value in alone.values()) > 1e-2
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, atol=1e-6, rtol=1e-5, msg=key)


def stop_after(steps: int) -> None:
    """Let this process end as by a kill, after so many steps of training."""
    taken: list[None] = []
    real = loop._take_step

    def take_step(*given: Any, **named: Any) -> Any:
        if len(taken) == steps:
            os._exit(7)
        taken.append(None)
        return real(*given, **named)

    loop._take_step = take_step


def train_and_die(together: Processes, *arguments: Any) -> None:
    stop_after(7)  # within the second epoch; its state of step 2 is kept
    train(together, *arguments)


@pytest.mark.parametrize(("first", "then", "stages"), [("ddp", "fsdp", ("lora",)), ("fsdp", "ddp", ("all",))])
def test_a_killed_training_goes_on_in_two_processes_however_the_model_is_held(
    phantom: Path, tmp_path: Path, first: str, then: str, stages: tuple[str, ...]
) -> None:
    config = CONFIG.model_copy(update={"save_every_steps": 2})
    whole = run(phantom, tmp_path / "whole", config=config, stages=stages)
    runs = tmp_path / "killed"
    died = in_two_processes(train_and_die, phantom, runs, config.model_copy(update={"parallel": first}), stages)
    assert died == [7, 7]
    (work,) = runs.iterdir()
    assert (work / "state").is_dir()
    again = config.model_copy(update={"parallel": then})
    assert in_two_processes(train, phantom, runs, again, stages) == [0, 0]
    (folder,) = runs.iterdir()
    same_weights(whole.folder, folder)


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = open_processes("cpu")
    assert isinstance(alone, OneProcess)
    assert isinstance(alone, Processes)
    assert list(alone.share([1, 2])) == [1, 2]
    assert alone.gather("x") == ["x"]
    with pytest.raises(UsageError, match="--parallel says how processes share the training; this is one"):
        require_several_processes("--parallel")


def test_a_process_that_does_not_know_its_number_does_not_train_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE=4: expected RANK, too"):
        open_processes("cpu")


def test_a_later_host_of_a_slice_knows_that_it_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever variables are set: the slice's metadata says so."""
    hosts = (None, TpuHost(0, 4, ("0",), "host-0"), TpuHost(3, 4, ("0",), "host-0"))
    met: list[Any] = []
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *words, **more: met.append(more))
    found = []
    for host in hosts:
        monkeypatch.setattr("finetune.parallel.processes.find_host", lambda host=host: host)
        found.append(open_processes("xla"))
        if host is not None:
            with pytest.raises(UsageError, match="evaluate runs in one process on one host"):
                require_one_process("xla")
    assert [(one.rank, one.size, one.share([1, 2])) for one in found] == [(rank, 1, [1, 2]) for rank in (0, 0, 3)]
    assert isinstance(found[2], Processes)
    assert [(one["init_method"], one["rank"], one["world_size"]) for one in met] == [
        ("tcp://host-0:29500", rank, 4) for rank in (0, 3)
    ]
    with pytest.raises(
        UsageError, match="slice of 4 hosts, and nothing says where the first one is: export MASTER_ADDR"
    ):
        TpuHosts(TpuHost(1, 4, ("0",)), {})
    monkeypatch.setattr("finetune.parallel.processes.find_host", lambda: TpuHost(0, 1, ("0",)))
    require_one_process("xla")


def train_as_host(rank: int, port: int, bucket: Path, runs: Path, fault: str) -> None:
    """Host 1 cannot fetch one volume, or finds other vectors."""
    torch.set_num_threads(1)
    together = TpuHosts(TpuHost(rank, 2, ("0",), "127.0.0.1"), {"MASTER_PORT": str(port)})
    if rank == 1:
        spoil(scans(bucket, "train")[0].relative_to(bucket).as_posix(), fault)
    try:
        done = finetune(
            options(bucket, runs, config=CONFIG, stages=("head",)), now=NOW, tell=lambda line: None, processes=together
        )
    except RunError as error:
        sys.exit(7 if "volumes and their vectors: process 1 of 2 has another one" in str(error) else 8)
    assert (done is None) == (rank == 1)
    assert done is None or done.failures == {"FetchError": 1}


def spoil(key: str, fault: str) -> None:
    load, encode = volumes._load_kept, volumes.EncodedVector.__call__

    def load_kept(line: Any, *words: Any) -> Any:
        if line.ref.key == key:
            return FailedVolume(line, VolumeFailure("fetch", "FetchError", "cut off", 3))
        return load(line, *words)

    if fault == "unread":
        volumes._load_kept = load_kept
    else:
        volumes.EncodedVector.__call__ = lambda self, volume: np.float32(1.5) * encode(self, volume)


@pytest.mark.parametrize(("fault", "codes"), [("unread", [0, 0]), ("other", [7, 7])])
def test_hosts_of_a_slice_use_the_same_volumes_or_stop(
    phantom: Path, tmp_path: Path, fault: str, codes: list[int]
) -> None:
    context, port = multiprocessing.get_context("fork"), free_port()
    given = port, phantom, tmp_path / "runs", fault
    hosts: list[Any] = [context.Process(target=train_as_host, args=(rank, *given)) for rank in (0, 1)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join(120)
    assert [host.exitcode for host in hosts] == codes


SRUN = {
    "SLURM_JOB_ID": "20123", "SLURM_STEP_ID": "0", "SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip
MPI = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}


@pytest.mark.parametrize(
    ("surroundings", "rank", "place"),
    [
        (SRUN, "6", "gpu07:29623"),
        (SRUN | {"SLURM_STEP_NODELIST": "gpu[3,5-9]-ib,other"}, "6", "gpu3-ib:29623"),
        (SRUN | {"SLURM_STEP_NODELIST": "a,b"}, "6", "a:29623"),
        (SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"}, "6", "10.0.0.1:4000"),
        (SRUN | {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_NODEID": "0"}, "2", "127.0.0.1:29623"),
        (MPI | {"MPI_LOCALNRANKS": "2"}, "1", "127.0.0.1:29500"),
    ],
)
def test_tasks_of_srun_and_mpirun_meet_where_their_launcher_says(
    surroundings: dict[str, str], rank: str, place: str
) -> None:
    launched = find_launched(surroundings)
    assert launched is not None
    found = meeting_place(launched, surroundings)
    assert (found["RANK"], f"{found['MASTER_ADDR']}:{found['MASTER_PORT']}") == (rank, place)


def test_processes_that_cannot_meet_are_refused() -> None:
    launched = find_launched(MPI)
    assert launched is not None
    with pytest.raises(UsageError, match=r"MPI started 2 processes on several machines, .* export MASTER_ADDR"):
        meeting_place(launched, MPI)
