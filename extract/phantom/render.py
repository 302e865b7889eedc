"""From surfaces to 8-bit grey: mean intensity, speckle, compression."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import gaussian_filter1d

from extract.phantom.anatomy import Surfaces
from extract.phantom.reflectivity import Scene, draw_tissue, signal
from extract.phantom.scanners import PROTOCOLS, SCANNERS, Protocol, Scanner
from extract.phantom.speckle import BINS, Grain, gamma_quantiles, grain_on_grid, normal_bins

CHUNK_VOXELS = 3_000_000


@dataclass(frozen=True, slots=True)
class Appearance:
    """A shift of the whole picture: brightness in dB, contrast as a factor around mid-scale."""

    brightness_db: float = 0.0
    contrast: float = 1.0


def render_volume(
    surfaces: Surfaces, protocol: Protocol, choroid_um: float, look: Appearance, rng: np.random.Generator
) -> UInt8[np.ndarray, "frames rows columns"]:
    """Draw a scan in chunks of frames, so that memory stays near the size of the result."""
    scanner = SCANNERS[protocol.device]
    scene = Scene(surfaces, draw_tissue(protocol, rng), choroid_um)
    grain = scan_grain(protocol)
    volume = np.empty((protocol.frames, protocol.rows, protocol.columns), np.uint8)
    step = max(1, CHUNK_VOXELS // (protocol.rows * protocol.columns))
    for start in range(0, protocol.frames, step):
        chunk = slice(start, min(start + step, protocol.frames))
        mean = signal(scene, scanner, protocol, chunk)
        if grain.axial_px > 0.4:
            mean = gaussian_filter1d(mean, grain.axial_px * 0.7, axis=1, mode="nearest", truncate=2.5)
        mean += 1.0
        volume[chunk] = _COMPRESS[scanner.compression](mean, scanner, grain, look, rng)
    return volume


def scan_grain(protocol: Protocol) -> Grain:
    """Give the speckle of a protocol, which may have been scaled down from its native grid."""
    scanner, native = SCANNERS[protocol.device], PROTOCOLS[protocol.name]
    return grain_on_grid(
        scanner.looks,
        (scanner.psf_axial_um, scanner.psf_lateral_um),
        (protocol.axial_mm * 1000, protocol.lateral_mm * 1000),
        (native.axial_mm * 1000, native.lateral_mm * 1000),
    )


def _log(
    mean: Float32[np.ndarray, "f r c"], scanner: Scanner, grain: Grain, look: Appearance, rng: np.random.Generator
) -> UInt8[np.ndarray, "f r c"]:
    """Grey is linear in decibels: the speckle is added to the level."""
    table = (10 * np.log10(gamma_quantiles(grain.looks))).astype(np.float32)
    level = np.log10(mean, out=mean)
    level *= 10
    level += table[normal_bins(mean.shape, grain, rng).astype(np.int16)]
    return _to_grey(level, scanner.black_db, scanner.white_db, scanner.gamma, look)


def _fourth_root(
    mean: Float32[np.ndarray, "f r c"], scanner: Scanner, grain: Grain, look: Appearance, rng: np.random.Generator
) -> UInt8[np.ndarray, "f r c"]:
    """Grey is linear in the fourth root of intensity: the speckle multiplies it, the noise by its share (1 / mean)."""
    bins = normal_bins(mean.shape, grain, rng).astype(np.int16)
    noise_looks = grain.looks * scanner.noise_looks / scanner.looks
    tissue, noise = (np.sqrt(np.sqrt(gamma_quantiles(n))).astype(np.float32) for n in (grain.looks, noise_looks))
    swing = tissue[bins]
    swing += (noise - tissue)[bins] / mean
    level = np.sqrt(np.sqrt(mean, out=mean), out=mean)
    level *= swing
    level *= np.float32(10 ** (look.brightness_db / 40))
    black, white = 10 ** (scanner.black_db / 40), 10 ** (scanner.white_db / 40)
    return _to_grey(level, black, white, scanner.gamma, Appearance(0.0, look.contrast))


_COMPRESS = {"log": _log, "fourth_root": _fourth_root}


def _to_grey(
    level: Float32[np.ndarray, "f r c"], black: float, white: float, gamma: float, look: Appearance
) -> UInt8[np.ndarray, "f r c"]:
    """Map black..white to 0..255 through a table with the gamma and a soft shoulder near white."""
    level += np.float32(look.brightness_db - black)
    level *= np.float32((BINS - 1) / 1.25 / (white - black))
    return grey_curve(gamma, look.contrast)[np.clip(level, 0, BINS - 1, out=level).astype(np.int16)]


def grey_curve(gamma: float, contrast: float) -> UInt8[np.ndarray, " bins"]:
    """Tabulate grey over 0 .. 1.25 of the scale: linear, then bending into white instead of cutting at it."""
    x = np.linspace(0, 1.25, BINS)
    x = np.clip(0.5 + (x - 0.5) * contrast, 0, None) ** gamma
    knee = 0.82
    bent = knee + (1 - knee) * np.tanh((x - knee) / (1 - knee))
    return np.round(255 * np.where(x < knee, x, bent)).astype(np.uint8)
