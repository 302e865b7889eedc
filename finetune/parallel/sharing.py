"""How the processes of a run train one model for the time of a stage: alone, replicated (DDP) or sharded (FSDP2).

Gradients are those of the mean loss over the volumes of all processes, however they are dealt out; what is read from
the model (weights to keep, AdamW's state) is always whole, so the files are the same.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

from torch import nn

from finetune.model.blocks import blocks_of
from finetune.model.network import VolumeClassifier
from finetune.parallel.processes import Processes


@runtime_checkable
class Parallel(Protocol):
    """A model in training. size: processes that share each batch.

    model: its weights by name. net: what is called for logits while training. spare: a model of the same weights at the
    beginning of the stage, through which nothing is exchanged.
    """

    model: VolumeClassifier
    net: nn.Module
    spare: VolumeClassifier
    size: int

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:
        """Surround forward and backward of a part of a batch; gradients are exchanged in the last one."""

    def sum(self, value: float) -> float:
        """Add up what each process counted in its share."""


class Alone:
    """One process, or several that do the same."""

    def __init__(self, model: VolumeClassifier) -> None:
        self.model, self.spare = model, model
        self.net: nn.Module = model
        self.size = 1

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - nobody to exchange with
        """Exchange nothing."""
        return nullcontext()

    def sum(self, value: float) -> float:
        """Give the one value."""
        return value


class Replicated:
    """Every process holds the whole model: torch's DistributedDataParallel around a copy."""

    def __init__(self, model: VolumeClassifier, processes: Processes) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self.spare, self.model = model, deepcopy(model)
        self._exchange = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        self.net: nn.Module = self._exchange
        self.size, self._processes = processes.size, processes

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        """Let DDP average gradients in the last part's backward pass."""
        with nullcontext() if last else self._exchange.no_sync():
            yield

    def sum(self, value: float) -> float:
        """Add up over processes."""
        return float(sum(self._processes.gather(value)))


class Sharded:
    """Every process holds a part of each weight, gradient and moment: torch's FSDP2 (fully_shard), block by block.

    The model as the stage began lies whole beside it (spare): it is what comes back after the stage.
    """

    def __init__(self, model: VolumeClassifier, processes: Processes) -> None:
        from torch.distributed.fsdp import fully_shard

        self.spare, self.model = model, deepcopy(model)
        for block in blocks_of(self.model.encoder):
            fully_shard(block)
        self._root: Any = fully_shard(self.model)
        self.net: nn.Module = self.model
        self.size, self._processes = processes.size, processes

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        """Let FSDP average gradients after the last part's backward pass."""
        self._root.set_requires_gradient_sync(last)
        yield

    def sum(self, value: float) -> float:
        """Add up over processes."""
        return float(sum(self._processes.gather(value)))


PARALLEL: dict[str, Callable[[VolumeClassifier, Processes], Parallel]] = {"ddp": Replicated, "fsdp": Sharded}


def start_parallel(model: VolumeClassifier, name: str, processes: Processes, *, shared: bool) -> Parallel:
    """Prepare a model, whose trainable weights are decided, for a stage. shared: whether batches are dealt out."""
    return PARALLEL[name](model, processes) if shared and processes.size > 1 else Alone(model)
