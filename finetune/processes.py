"""The seam to other processes of the same run: torchrun starts them, and each has its share of every batch."""

import os
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

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

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes."""


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

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Leave them."""


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

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum as one flat tensor: one exchange a step."""
        if not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()


def open_processes() -> Processes:
    """Join the processes of torchrun where it started this one; know a later host of a TPU slice; else be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return TorchProcesses()
    host = int(os.environ.get("TPU_WORKER_ID", "0")) if os.environ.get("PJRT_DEVICE") == "TPU" else 0
    return LaterHost(host) if host else OneProcess()
