"""Volumes with their labels, as torch reads them: from the cache on disk, augmented by their own seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classify.features.table import FeatureTable
from embeddings_store.schema import Eye
from finetune.data.augment.augmenter import Augmenter
from finetune.data.images import ImageCache
from finetune.data.sampling import Draw

Sample = tuple[Tensor, Tensor, int]
"""volume float32 [1, D, H, W]; label float32 [classes], its sum the volume's weight; row of the standardisation."""

READ_AHEAD = 2


@dataclass(frozen=True)
class VolumeDataset(Dataset[Sample]):
    """One split, by draws. group: row of the standardisation of each volume. weights: of each volume in the loss.

    Whatever is random comes from (volume, epoch), so every worker and every batch size gives the same sample.
    """

    table: FeatureTable
    images: ImageCache
    group: Int64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    classes: int
    augmenter: Augmenter | None = None

    def __getitem__(self, draw: Draw) -> Sample:
        """Read one volume, and change or mix it where the augmenter says so."""
        volume, label, group = self._read(draw.row), self._label(draw.row), int(self.group[draw.row])
        if self.augmenter is not None:
            rng = self.augmenter.rng_of(str(self.table.volume[draw.row]), draw.epoch, draw.repeat)
            volume, _ = self.augmenter.change(volume, Eye(str(self.table.eye[draw.row])), rng)
            volume, label = self._mix(draw.row, volume, label, rng)
        return torch.from_numpy(volume), torch.from_numpy(label * np.float32(draw.counts)), group

    def _mix(
        self,
        row: int,
        volume: Float32[np.ndarray, "1 D H W"],
        label: Float32[np.ndarray, " classes"],
        rng: np.random.Generator,
    ) -> tuple[Float32[np.ndarray, "1 D H W"], Float32[np.ndarray, " classes"]]:
        """Mix with another volume of the same protocol group, which shares its standardisation."""
        mixing = self.augmenter.draw_mixing(rng) if self.augmenter else None
        others = np.flatnonzero(self.group == self.group[row])
        if mixing is None or self.augmenter is None or len(others) < 2:
            return volume, label
        other = int(rng.choice(others[others != row]))
        partner, _ = self.augmenter.change(self._read(other), Eye(str(self.table.eye[other])), rng)
        mixed, share = mixing.apply(volume, partner, rng)
        return mixed, np.float32(share) * label + np.float32(1 - share) * self._label(other)

    def _read(self, row: int) -> Float32[np.ndarray, "1 D H W"]:
        return self.images.image(str(self.table.volume[row]))

    def _label(self, row: int) -> Float32[np.ndarray, " classes"]:
        label = np.zeros(self.classes, np.float32)
        label[self.table.y[row]] = self.weights[row]
        return label


def read_batches(dataset: VolumeDataset, batches: Sequence[Sequence[Draw]], workers: int) -> Iterator[list[Tensor]]:
    """Read batches in order, ahead of their use where there are workers: volumes, labels and groups, stacked."""
    loader: DataLoader[Sample] = DataLoader(
        dataset,
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        prefetch_factor=READ_AHEAD if workers else None,
    )
    yield from loader
