"""Where batches come from: volumes on disk, vectors of the frozen encoder, or its stored tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor, nn

from classify.features.table import FeatureTable
from extract.device.backend import Backend
from finetune.data.dataset import VolumeDataset, read_batches
from finetune.data.raw import RawVolumes, make_volumes
from finetune.data.sampling import Draw
from finetune.model.network import TOKENS, VECTORS, VOLUMES


@dataclass(frozen=True)
class LabelledBatch:
    """Inputs on the device, their labels [b, classes] whose rows sum to the volumes' weights, and their groups."""

    inputs: Shaped[Tensor, "b ..."]
    label: Float[Tensor, "b k"]
    group: Shaped[Tensor, " b"]


@runtime_checkable
class Feed(Protocol):
    """One split of the cohort, in batches. shared: divided among processes; else each takes the whole, being cheap."""

    shared: ClassVar[bool]

    @property
    def table(self) -> FeatureTable:
        """Give the rows that draws name."""

    def batches(self, draws: Sequence[Sequence[Draw]]) -> Iterator[LabelledBatch]:
        """Read batches in order."""

    def logits(self, net: nn.Module, batch: LabelledBatch) -> Float[Tensor, "b k"]:
        """Classify one of them; net: a VolumeClassifier, or what wraps it for several processes."""


@dataclass(frozen=True)
class VolumeFeed:
    """Volumes end to end. pad_to: volumes a batch where the device compiles for each shape, else None."""

    shared: ClassVar[bool] = True

    dataset: VolumeDataset
    backend: Backend
    workers: int = 0
    pad_to: int | None = None

    @property
    def table(self) -> FeatureTable:
        """Give the rows that draws name."""
        return self.dataset.table

    def batches(self, draws: Sequence[Sequence[Draw]]) -> Iterator[LabelledBatch]:
        """Read volumes, and carry them to the device, which changes raw ones; what pads a batch weighs nothing."""
        for volumes, label, group in read_batches(self.dataset, draws, self.workers):
            missing = max(0, (self.pad_to or 0) - len(label))
            carry = partial(_carry, self.backend, missing)
            inputs = make_volumes(volumes.mapped(carry)) if isinstance(volumes, RawVolumes) else carry(volumes)
            yield LabelledBatch(
                inputs, _padded(label, missing).to(inputs.device), _padded(group, missing).to(inputs.device)
            )

    def logits(self, net: nn.Module, batch: LabelledBatch) -> Float[Tensor, "b k"]:
        """Run encoder and head."""
        result: Tensor = net(batch.inputs, batch.group, VOLUMES)
        return result


@dataclass(frozen=True)
class VectorFeed:
    """Standardised mean-pooled vectors of the starting encoder: valid while it is frozen, and free of its cost."""

    shared: ClassVar[bool] = False

    table: FeatureTable
    backend: Backend
    weights: Float64[np.ndarray, " n"]
    classes: int

    def batches(self, draws: Sequence[Sequence[Draw]]) -> Iterator[LabelledBatch]:
        """Take rows of the table."""
        for drawn in draws:
            rows = rows_of(drawn)
            yield _batch(self.table.x[rows], self, drawn, np.zeros_like(rows))

    def logits(self, net: nn.Module, batch: LabelledBatch) -> Float[Tensor, "b k"]:
        """Run the head."""
        result: Tensor = net(batch.inputs, batch.group, VECTORS)
        return result


@dataclass(frozen=True)
class TokenFeed:
    """Tokens of the starting encoder, read from a store as they are needed: float16 there, about 14 MB a volume."""

    shared: ClassVar[bool] = True

    table: FeatureTable
    backend: Backend
    weights: Float64[np.ndarray, " n"]
    classes: int
    group: Int64[np.ndarray, " n"]
    read: Callable[[list[str]], Float32[np.ndarray, "b N C"]]

    def batches(self, draws: Sequence[Sequence[Draw]]) -> Iterator[LabelledBatch]:
        """Read the tokens of volumes."""
        for drawn in draws:
            rows = rows_of(drawn)
            yield _batch(self.read(self.table.volume[rows].tolist()), self, drawn, self.group[rows])

    def logits(self, net: nn.Module, batch: LabelledBatch) -> Float[Tensor, "b k"]:
        """Run pooling and head."""
        result: Tensor = net(batch.inputs, batch.group, TOKENS)
        return result


def rows_of(draws: Sequence[Draw]) -> Int64[np.ndarray, " b"]:
    """Give the rows of draws."""
    return np.array([draw.row for draw in draws], dtype=np.int64)


def _batch(
    inputs: Float32[np.ndarray, "b ..."],
    feed: VectorFeed | TokenFeed,
    drawn: Sequence[Draw],
    group: Int64[np.ndarray, " b"],
) -> LabelledBatch:
    rows, counts = rows_of(drawn), np.array([draw.counts for draw in drawn])
    label = np.zeros((len(rows), feed.classes), np.float32)
    label[np.arange(len(rows)), feed.table.y[rows]] = feed.weights[rows] * counts
    placed = feed.backend.place(inputs)
    return LabelledBatch(placed, torch.from_numpy(label).to(placed.device), torch.from_numpy(group).to(placed.device))


def _carry(backend: Backend, missing: int, tensor: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "more ..."]:
    return backend.place(_padded(tensor, missing).numpy())


def _padded(tensor: Shaped[Tensor, "b ..."], missing: int) -> Shaped[Tensor, "more ..."]:
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))]) if missing else tensor
