"""The seam to other processes of the same run: torchrun starts them, and each has its share of every batch."""

import os
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from embeddings_store.errors import UsageError

Part = TypeVar("Part")


@runtime_checkable
class Processes(Protocol):
    """All processes of a run; they go through the same steps in the same order."""

    rank: int
    size: int

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give the part of a list that belongs to this process."""

    def gather(self, part: Any) -> list[Any]:
        """Give what every process brought, in the order of their ranks, to each of them."""


class OneProcess:
    """A run of its own."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give everything."""
        return items

    def gather(self, part: Any) -> list[Any]:
        """Give the one part."""
        return [part]


class LaterHost(OneProcess):
    """A host of a TPU slice that is not the first: it runs the first one's program, and leaves the writing to it."""

    def __init__(self, number: int) -> None:
        self.rank = number


class TorchProcesses:
    """The processes that torchrun started, through torch.distributed (gloo on CPUs, NCCL between GPUs)."""

    def __init__(self) -> None:
        from torch import distributed

        self._distributed = distributed
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give every size-th item."""
        return items[self.rank :: self.size]

    def gather(self, part: Any) -> list[Any]:
        """Exchange objects by pickle, as torch.distributed does, among processes of this run only."""
        found: list[Any] = [None] * self.size
        self._distributed.all_gather_object(found, part)
        return found


def require_one_process() -> None:
    """Raise UsageError where torchrun, or a TPU slice of several hosts, started this process among others."""
    others = (
        int(os.environ.get("WORLD_SIZE", "1")) > 1 or len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
    )
    if others:
        raise UsageError("evaluate runs in one process on one host, so that a look is counted once; start it alone")


def require_several_processes(option: str) -> None:
    """Raise UsageError where torchrun did not start this process among others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise UsageError(f"{option} says how processes share the training; this is one: start it with torchrun")


def open_processes() -> Processes:
    """Join the processes of torchrun where it started this one; know a later host of a TPU slice; else be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return TorchProcesses()
    host = int(os.environ.get("TPU_WORKER_ID", "0")) if os.environ.get("PJRT_DEVICE") == "TPU" else 0
    return LaterHost(host) if host else OneProcess()
