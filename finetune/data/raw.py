"""Volumes as the cache keeps them, on their way to where they are changed: the host, or the device itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from extract.augment.change import change_batch
from extract.augment.draws import Draws
from finetune.data.augment.mixing import mix


@dataclass(frozen=True)
class RawVolumes:
    """stored: uint8 levels or float32; of each volume, and where the recipe mixes, of the one that it is mixed with.

    scale: first and step of the levels. draws: of each; None: nothing is changed. mixture: as mix takes it; None:
    nothing is mixed.
    """

    stored: Shaped[Tensor, "b V D H W"]
    scale: Float32[Tensor, "b V 2"]
    draws: Draws | None = None
    mixture: Float32[Tensor, "b 8"] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        parts = (self.stored, self.scale, self.mixture, *(self.draws or ()))
        return sum(part.nbytes for part in parts if part is not None)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "RawVolumes":
        """Give the same with every part changed."""
        draws = None if self.draws is None else Draws(*map(change, self.draws))
        mixture = None if self.mixture is None else change(self.mixture)
        return RawVolumes(change(self.stored), change(self.scale), draws, mixture)

    def pin_memory(self) -> "RawVolumes":
        """Give the same in page-locked memory; a DataLoader asks for it in a thread of its own."""
        return self.mapped(Tensor.pin_memory)


def stack_raw(several: Sequence[RawVolumes]) -> RawVolumes:
    """Make one batch of several that have the same parts."""
    draws = [one.draws for one in several if one.draws is not None]
    mixtures = [one.mixture for one in several if one.mixture is not None]
    return RawVolumes(
        torch.cat([one.stored for one in several]),
        torch.cat([one.scale for one in several]),
        Draws(*map(torch.cat, zip(*draws, strict=True))) if draws else None,
        torch.cat(mixtures) if mixtures else None,
    )


def make_volumes(raw: RawVolumes) -> Float32[Tensor, "b 1 D H W"]:
    """Unpack, change and mix volumes where they are: the encoder's input."""
    first, step = raw.scale[..., None, None, None].unbind(2)
    voxels = (first + raw.stored.float() * step).flatten(0, 1)
    if raw.draws is not None:
        voxels = change_batch(voxels, Draws(*(part.flatten(0, 1) for part in raw.draws)))
    several = voxels.view(raw.stored.shape)
    if raw.mixture is None:
        return several
    return mix(several[:, 0], several[:, 1], raw.mixture)[:, None]
