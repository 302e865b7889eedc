"""Speckle: the grain of coherent light.

Fully developed speckle has exponential intensity (contrast 1); the mean of N independent looks is Gamma(N), contrast
1/sqrt(N) (Goodman, Speckle Phenomena in Optics, 2007). The grain is as wide as the point spread. Here a Gaussian
field is filtered with the point spread and mapped, voxel by voxel, to the quantiles of Gamma(N): the distribution is
exact, the correlation that of the field to within the curvature of the map, and one random number a voxel is enough.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import gaussian_filter1d
from scipy.special import gammaincinv, ndtr

BINS = 4096
REACH = 5.0
"""The table covers +-5 standard deviations in 4,096 steps; one voxel in two million lies outside and is clipped."""

SMALLEST_SIGMA_PX = 0.25


@dataclass(frozen=True, slots=True)
class Grain:
    """Speckle of one scan: looks, and the standard deviation of the grain in pixels (axial, lateral)."""

    looks: float
    axial_px: float
    lateral_px: float


def grain_on_grid(
    looks: float, psf_um: tuple[float, float], pixel_um: tuple[float, float], native_um: tuple[float, float]
) -> Grain:
    """Give the grain on a grid that may be coarser than the native one (axial, lateral).

    A coarse pixel stands for the mean over the native pixels that it covers; as many grains as fit into it (a grain
    covers 2 sqrt(pi) sigma of each axis, never less than a native pixel) count as so many more looks.
    """
    for psf, pixel, native in zip(psf_um, pixel_um, native_um, strict=True):
        cell = max(native, 2 * math.sqrt(math.pi) * psf)
        looks *= max(1.0, pixel / cell) if pixel > native * 1.001 else 1.0
    return Grain(looks, psf_um[0] / pixel_um[0], psf_um[1] / pixel_um[1])


@lru_cache(maxsize=64)
def gamma_quantiles(looks: float) -> Float64[np.ndarray, " bins"]:
    """Tabulate Gamma(looks) with mean 1 at the quantiles of the standard normal between -5 and 5; not to be written."""
    z = np.linspace(-REACH, REACH, BINS)
    quantiles: Float64[np.ndarray, " bins"] = np.maximum(gammaincinv(looks, ndtr(z)) / looks, 1e-6)
    quantiles.flags.writeable = False  # all scans of a protocol share it
    return quantiles


def normal_bins(
    shape: tuple[int, int, int], grain: Grain, rng: np.random.Generator
) -> Float32[np.ndarray, "frames rows columns"]:
    """Draw the correlated Gaussian field, in units of bins of the quantile table (a float in 0 .. 4095)."""
    field = rng.standard_normal(shape, dtype=np.float32)
    for axis, sigma in ((1, grain.axial_px), (2, grain.lateral_px)):
        if sigma > SMALLEST_SIGMA_PX:
            field = gaussian_filter1d(field, sigma, axis=axis, mode="wrap", truncate=3.0)
            field /= np.float32(_kept_deviation(sigma, shape[axis]))
    field *= np.float32((BINS - 1) / (2 * REACH))
    field += np.float32((BINS - 1) / 2)
    return np.clip(field, 0, BINS - 1, out=field)


def speckle(
    shape: tuple[int, int, int], grain: Grain, rng: np.random.Generator
) -> Float64[np.ndarray, "frames rows columns"]:
    """Draw speckle intensities with mean 1 and contrast 1/sqrt(looks)."""
    return gamma_quantiles(grain.looks)[normal_bins(shape, grain, rng).astype(np.intp)]


def _kept_deviation(sigma: float, length: int) -> float:
    """Tell what standard deviation white noise keeps after scipy's Gaussian filter of this width on a ring."""
    impulse = np.zeros(length)
    impulse[length // 2] = 1.0
    return float(np.sqrt((gaussian_filter1d(impulse, sigma, mode="wrap", truncate=3.0) ** 2).sum()))
