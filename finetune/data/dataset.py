"""Volumes with their labels, as torch reads them: from the cache on disk, augmented by their own seeds."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classify.features.table import FeatureTable
from embeddings_store.errors import RunError
from embeddings_store.schema import Eye
from extract.augment.draws import Draws
from finetune.data.augment.augmenter import Augmenter
from finetune.data.augment.mixing import UNMIXED, Mixture
from finetune.data.images import ImageCache
from finetune.data.raw import RawVolumes, make_volumes, stack_raw
from finetune.data.sampling import Draw

Label = Float32[np.ndarray, " classes"]

Sample = tuple[Tensor | RawVolumes, Tensor, int]
"""volume float32 [1, D, H, W], or what will become it; label float32 [classes], its sum the volume's weight; row of the
standardisation."""

READ_AHEAD = 2
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where torch's workers put batches


@dataclass(frozen=True)
class VolumeDataset(Dataset[Sample]):
    """One split, by draws. group: row of the standardisation of each volume. weights: of each volume in the loss.

    raw: volumes are given as they are cached, for a device that changes them itself.
    Whatever is random comes from (volume, epoch), so every worker and every batch size gives the same sample.
    """

    table: FeatureTable
    images: ImageCache
    group: Int64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    classes: int
    augmenter: Augmenter | None = None
    raw: bool = False

    def __getitem__(self, draw: Draw) -> Sample:
        """Read one volume, and change or mix it where the augmenter says so."""
        volume, label, group = self._read(draw.row), self._label(draw.row), int(self.group[draw.row])
        if self.augmenter is not None:
            rng = self.augmenter.rng_of(str(self.table.volume[draw.row]), draw.epoch, draw.repeat)
            volume, label = self._draw(draw.row, volume, label, self.augmenter, rng)
        counted = torch.from_numpy(label * np.float32(draw.counts))
        return volume if self.raw else make_volumes(volume)[0], counted, group

    def _draw(
        self, row: int, volume: RawVolumes, label: Label, augmenter: Augmenter, rng: np.random.Generator
    ) -> tuple[RawVolumes, Label]:
        """Draw the changes of a volume, and of another of its protocol group that it is mixed with.

        The group shares its standardisation. Where volumes may be mixed, a raw batch has a second one for each of them.
        """
        frames, rows, columns = size = volume.stored.shape[2:]
        changed = replace(volume, draws=self._changes(row, size, augmenter, rng))
        mixing = augmenter.draw_mixing(rng)
        others = np.flatnonzero(self.group == self.group[row])
        if mixing is None or len(others) < 2:
            return _beside(changed, changed, UNMIXED) if self.raw and augmenter.mixes else changed, label
        other = int(rng.choice(others[others != row]))
        partner = replace(self._read(other), draws=self._changes(other, size, augmenter, rng))
        mixture, share = mixing.draw((frames, rows, columns), rng)
        shared = np.float32(share) * label + np.float32(1 - share) * self._label(other)
        return _beside(changed, partner, mixture), shared

    def _changes(self, row: int, size: Sequence[int], augmenter: Augmenter, rng: np.random.Generator) -> Draws:
        frames, rows, columns = size
        drawn = augmenter.draw((frames, rows, columns), Eye(str(self.table.eye[row])), rng)
        return Draws(*(torch.from_numpy(part)[None, None] for part in drawn))

    def _read(self, row: int) -> RawVolumes:
        stored, scale = self.images.stored(str(self.table.volume[row]))
        return RawVolumes(torch.from_numpy(stored)[None], torch.from_numpy(scale)[None, None])

    def _label(self, row: int) -> Label:
        label = np.zeros(self.classes, np.float32)
        label[self.table.y[row]] = self.weights[row]
        return label


def read_batches(
    dataset: VolumeDataset, batches: Sequence[Sequence[Draw]], workers: int, *, page_locked: bool = False
) -> Iterator[tuple[Tensor | RawVolumes, Tensor, Tensor]]:
    """Read batches in order, ahead of their use where there are workers: volumes, labels and groups, stacked.

    Raises: RunError where workers have too little shared memory to hand them over.
    """
    if workers and batches:
        require_shared_memory(dataset, max(batches, key=len), workers)
    loader: DataLoader[Sample] = DataLoader(
        dataset,
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        prefetch_factor=READ_AHEAD if workers else None,
        collate_fn=_stack,
        pin_memory=dataset.raw and page_locked,
    )
    yield from loader


def require_shared_memory(dataset: VolumeDataset, draws: Sequence[Draw], workers: int) -> None:
    """Refuse workers whose batches do not fit: torch's own would lose them in a thread, and wait for ever."""
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    volume, *_ = dataset[draws[0]]
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun: they share the machine's
    needed = volume.nbytes * len(draws) * (workers * READ_AHEAD + 1) * ranks
    if needed > free:
        raise RunError(
            f"workers {workers}: expected {needed / 1e6:,.0f} MB of shared memory for the batches that they hand over, "
            f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB; set workers to 0, or give it more room (docker run --shm-size)"
        )


def _beside(one: RawVolumes, other: RawVolumes, mixture: Mixture) -> RawVolumes:
    """Put what a volume is mixed with behind it."""
    both = zip(one.draws or (), other.draws or (), strict=True)
    return RawVolumes(
        torch.cat([one.stored, other.stored], 1),
        torch.cat([one.scale, other.scale], 1),
        Draws(*(torch.cat(pair, 1) for pair in both)),
        torch.from_numpy(mixture)[None],
    )


def _stack(samples: Sequence[Sample]) -> tuple[Tensor | RawVolumes, Tensor, Tensor]:
    labels, groups = torch.stack([label for _, label, _ in samples]), torch.tensor([group for _, _, group in samples])
    raw = [volume for volume, _, _ in samples if isinstance(volume, RawVolumes)]
    if raw:
        return stack_raw(raw), labels, groups
    return torch.stack([volume for volume, _, _ in samples if isinstance(volume, Tensor)]), labels, groups
