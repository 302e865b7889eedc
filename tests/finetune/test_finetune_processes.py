"""Two processes that share every batch end where one process ends."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_study import NOW, options, run
from safetensors.torch import load_file

from classify.run import load_run
from finetune.processes import OneProcess, Processes, TorchProcesses, open_processes
from finetune.recipe import load_config
from finetune.train import finetune

OWN = ("rotation_degrees", "scaling", "shift", "contrast", "noise")
CONFIG = load_config(
    None,
    changes=("batch_size=5", "micro_batch_size=2", "stages.all.drop_path=0", "stages.all.weight_decay=0",
             *(f"augment.{name}=0" for name in OWN)),
    epochs=2,
)  # fmt: skip
STAGES = ("head", "all")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def work(rank: int, port: int, bucket: Path, runs: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    together = open_processes()
    assert isinstance(together, TorchProcesses)
    tensors = [torch.full((2, 2), float(rank + 1)), torch.tensor([float(rank)])]
    together.sum(tensors)
    assert (tensors[0] == 3).all()
    assert tensors[1].item() == 1
    assert together.gather(rank) == [0, 1]
    assert list(together.share(range(5))) == [[0, 2, 4], [1, 3]][rank]
    done = finetune(
        options(bucket, runs, config=CONFIG, stages=STAGES), now=NOW, tell=lambda line: None, processes=together
    )
    assert (done is None) == (rank > 0)


def test_two_processes_end_with_the_weights_of_one(phantom: Path, tmp_path: Path) -> None:
    alone = run(phantom, tmp_path / "one", config=CONFIG, stages=STAGES)
    context, port = multiprocessing.get_context("fork"), free_port()
    children: list[Any] = [
        context.Process(target=work, args=(rank, port, phantom, tmp_path / "two")) for rank in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    (folder,) = (tmp_path / "two").iterdir()
    together = load_run(folder)
    assert together.record["parameters"]["processes"] == 2
    for name in ("head", "encoder"):
        one, two = (load_file(place / "model" / f"{name}.safetensors") for place in (alone.folder, folder))
        assert one.keys() == two.keys()
        assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    ours, theirs = (load_run(place).predictions.filter(regex="logit") for place in (alone.folder, folder))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    histories = [record["parameters"]["history"] for record in (alone.record.to_dict(), together.record)]
    for epochs in zip(*histories, strict=True):
        assert epochs[0]["train_loss"] == pytest.approx(epochs[1]["train_loss"], abs=1e-5)


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = open_processes()
    assert isinstance(alone, OneProcess)
    assert isinstance(alone, Processes)
    assert list(alone.share([1, 2])) == [1, 2]
    assert alone.gather("x") == ["x"]


def test_a_later_host_of_a_slice_knows_that_it_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("TPU_WORKER_ID", "3")
    assert open_processes().rank == 0
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    later = open_processes()
    assert isinstance(later, Processes)
    assert (later.rank, later.size, later.share([1, 2])) == (3, 1, [1, 2])
