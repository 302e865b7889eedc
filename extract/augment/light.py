"""Changes of brightness as an OCT device makes them: contrast, noise, speckle, lost B-scans, shadows.

A preprocessed volume is grey, and grey is linear in decibels on these devices: its whole range stands for about
RANGE_DB of intensity. So a factor on the intensity is a sum on the grey values, nepers() to one.
"""

from math import log

import numpy as np
from jaxtyping import Float32

RANGE_DB = 40.0
"""Between black and white of a clinical B-scan; the phantom's scanners span as much (extract.phantom.scanners)."""

Volume = Float32[np.ndarray, "1 D H W"]


def grey_per_neper(volume: Volume) -> float:
    """Give how much grey one neper (a factor e) of intensity is."""
    return float(volume.max() - volume.min()) / (RANGE_DB * log(10) / 10)


def add_speckle(volume: Volume, looks: float, rng: np.random.Generator) -> Volume:
    """Multiply every voxel's intensity by Gamma(looks) of mean 1: the mean of that many independent speckles.

    Source: Goodman, Speckle Phenomena in Optics, 2007; contrast is 1 / sqrt(looks).
    """
    grain = rng.standard_gamma(looks, volume.shape, dtype=np.float32)
    grain /= np.float32(looks)
    np.maximum(grain, np.float32(1e-6), out=grain)
    return volume + np.float32(grey_per_neper(volume)) * np.log(grain, out=grain)


def add_shadows(
    volume: Volume,
    centres: Float32[np.ndarray, " shadows"],
    widths: Float32[np.ndarray, " shadows"],
    depths: Float32[np.ndarray, " shadows"],
) -> Volume:
    """Darken columns through the whole depth, as an opacity or a large vessel does, down to the detector's noise.

    The noise is taken to begin at the lower quartile of the voxels: most of a scan is vitreous and what lies too deep.
    centres, widths: shares of the lateral side. depths: nepers lost in the middle of a shadow.
    """
    place = (np.arange(volume.shape[3], dtype=np.float32) + np.float32(0.5)) / np.float32(volume.shape[3])
    lost = np.zeros_like(place)
    for centre, width, depth in zip(centres, widths, depths, strict=True):
        lost += depth * np.exp(-(((place - centre) / width) ** 2), dtype=np.float32)
    floor = np.quantile(volume[:, :, ::4, ::4], 0.25).astype(np.float32)
    darker = np.maximum(volume - np.float32(grey_per_neper(volume)) * lost, floor)
    shadowed: np.ndarray = np.minimum(volume, darker)
    return shadowed


def lose_frames(volume: Volume, frames: np.ndarray) -> Volume:
    """Black out B-scans, as a blink does."""
    changed = volume.copy()
    changed[:, frames] = volume.min()
    return changed


def change_contrast(volume: Volume, gamma: float) -> Volume:
    """Bend the grey curve by MONAI's AdjustContrast: ((v - min) / range) ** gamma, within the same range."""
    from monai.transforms.intensity.array import AdjustContrast

    return np.ascontiguousarray(AdjustContrast(gamma)(volume), dtype=np.float32)


def add_noise(volume: Volume, spread: float, seed: int) -> Volume:
    """Add white noise by MONAI's RandGaussianNoise; spread: its standard deviation, that of the volume being 1."""
    from monai.transforms.intensity.array import RandGaussianNoise

    noise = RandGaussianNoise(prob=1.0, mean=0.0, std=spread, sample_std=False)
    noise.set_random_state(seed=seed)
    return np.ascontiguousarray(noise(volume), dtype=np.float32)


def z_score(volume: Volume) -> Volume:
    """Standardise again, as the preset "pretrain" ends: mean 0, population standard deviation 1 (or left at 0)."""
    centred = volume - np.float32(volume.mean(dtype=np.float64))
    spread = float(np.sqrt(np.square(centred, dtype=np.float64).mean()))
    return centred / np.float32(spread if spread > 0 else 1.0)
