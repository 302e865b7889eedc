"""Changes of brightness as an OCT device makes them: contrast, noise, speckle, lost B-scans, shadows.

A preprocessed volume is grey, and grey is linear in decibels on these devices: its whole range stands for about
RANGE_DB of intensity. So a factor on the intensity is a sum on the grey values, a neper (a factor e) being NEPER of the
range.
"""

from math import log

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from extract.augment.noise import normal_pair

RANGE_DB = 40.0
"""Between black and white of a clinical B-scan; the phantom's scanners span as much (extract.phantom.scanners)."""

NEPER = 10 / (RANGE_DB * log(10))

Whole = Float32[Tensor, "b D H W"]


class Light:
    """How bright the voxels of a batch become; its range and its noise floor are taken before anything is changed."""

    def __init__(self, moved: Whole, light: Float32[Tensor, "b 3"], shadows: Float32[Tensor, "b 3 n"]) -> None:
        self._gamma, self._speckle, self._noise = light[:, :, None, None, None].unbind(1)
        self._low = moved.amin((1, 2, 3), keepdim=True)
        self._range = moved.amax((1, 2, 3), keepdim=True) - self._low
        self._lost = _nepers_lost(shadows, moved.shape[3]) if shadows.shape[2] else None
        sample = moved[:, :, ::4, ::4].flatten(1)
        lower_quartile = sample.kthvalue(1 + (sample.shape[1] - 1) // 4).values[:, None, None, None]
        self._floor = self._bend(lower_quartile)

    def change(self, part: Whole, first: int, seed: Int32[Tensor, "b 3"]) -> Whole:
        """Change some frames, the first of which is number ``first``: contrast, shadows, speckle, noise."""
        changed = self._bend(part)
        if self._lost is not None:
            darker = (changed - self._range * NEPER * self._lost).clamp_(min=self._floor)
            changed = torch.minimum(changed, darker)
        numbers = torch.arange(part[0].numel(), dtype=torch.int32, device=part.device) + first * part[0, 0].numel()
        one, other = (normal.view(part.shape) for normal in normal_pair(numbers, seed))
        grain = log_speckle(one, self._speckle)
        return changed.add_(grain.mul_(self._range * NEPER)).add_(other.mul_(self._noise))

    def _bend(self, grey: Float32[Tensor, "b ..."]) -> Float32[Tensor, "b ..."]:
        """Bend the grey curve: ((v - min) / range) ** gamma, within the same range."""
        bent = (grey - self._low).div_(self._range + 1e-7).pow_(self._gamma)
        return bent.mul_(self._range).add_(self._low)


def log_speckle(normal: Float[Tensor, "*n"], contrast: Float[Tensor, "*one"]) -> Float[Tensor, "*n"]:
    """Give the logarithm of an intensity of mean 1 and this contrast, 1 / sqrt(looks): a Gamma variable of that many.

    Source: Goodman, Speckle Phenomena in Optics, 2007. Its cube root is nearly normal (Wilson and Hilferty, 1931): the
    distribution function is right to 3e-4 at 25 looks, to 0.002 at four, to 0.013 at one. No grain is below 1e-6.
    """
    root = (normal * (contrast / 3)).add_(1 - contrast.square() / 9)
    return root.clamp_(min=0.01).log_().mul_(3)


def lose_frames(volumes: Whole, lost: Float32[Tensor, "b D"]) -> Whole:
    """Black out B-scans, as a blink does."""
    return torch.where(lost[:, :, None, None] > 0, volumes.amin((1, 2, 3), keepdim=True), volumes)


def z_score(volumes: Whole) -> Whole:
    """Standardise again, as the preset "pretrain" ends: mean 0, population standard deviation 1 (or left at 0)."""
    centred = volumes - volumes.mean((2, 3)).mean(1)[:, None, None, None]
    spread = centred.square().mean((2, 3)).mean(1).sqrt()[:, None, None, None]
    return centred.div_(torch.where(spread > 0, spread, torch.ones_like(spread)))


def _nepers_lost(shadows: Float32[Tensor, "b 3 n"], columns: int) -> Float32[Tensor, "b 1 1 W"]:
    """Give what each column loses through the whole depth, as under an opacity or a large vessel.

    What is lost ends at the detector's noise, taken to begin at the lower quartile of the voxels: most of a scan is
    vitreous and what lies too deep.
    """
    place = (torch.arange(columns, dtype=torch.float32, device=shadows.device) + 0.5) / columns
    centre, width, depth = shadows[:, :, :, None].unbind(1)
    return (depth * torch.exp(-(((place - centre) / width).square()))).sum(1)[:, None, None]
