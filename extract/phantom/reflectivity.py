"""How bright each place is before speckle: layers, choroid, disc and vessel shadows, as linear intensity.

Everything is relative to the noise floor of the scanner (1.0), on which the signal is added.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import gaussian_filter

from extract.phantom.anatomy import Surfaces
from extract.phantom.scanners import Protocol, Scanner
from extract.phantom.thickness import LAYERS

LAYER_DB = {
    "RNFL": 27.0,
    "GCL": 22.2,
    "IPL": 23.4,
    "INL": 19.2,
    "OPL": 22.9,
    "ONL": 15.0,
    "ELM": 20.0,
    "MYOID": 16.0,
    "EZ": 29.8,
    "OS": 26.0,
    "RPE": 32.0,
}
"""Over the noise floor at 32 dB of signal; set beside public Spectralis B-scans (see scanners)."""

CHOROID_DB = 23.5
SCLERA_DROP_DB = 5.0
THIN_LOSS_DB = 6.0
"""A nerve-fibre layer thinner than its grain is no bright line; fibres that run obliquely at the fovea darken."""

DISC_DB = 25.5
DISC_LOSS_DB_PER_MM = 55.0
SHADOW = 0.85
GRID_UM = (8.0, 14.0)
FINE_UM = (9.0, 15.0)
COARSE_UM = (22.0, 48.0)


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """Slow random texture of one scan: of each layer along the B-scan, and of the choroid in depth and along it."""

    layers_db: Float32[np.ndarray, "11 frames columns"]
    choroid_db: Float32[np.ndarray, "frames depths places"]
    depth_step_um: float
    place_step_px: float


def draw_tissue(protocol: Protocol, rng: np.random.Generator) -> Tissue:
    """Draw the textures; grain sizes in um do not depend on the voxel size."""
    frames, columns = protocol.frames, protocol.columns
    lateral_um, frame_um = protocol.lateral_mm * 1000, max(protocol.frame_mm, 0.1) * 1000
    layers = _smooth_noise(rng, (len(LAYER_DB), frames, columns), (0.0, 150 / frame_um, 150 / lateral_um)) * 0.35
    step_um = max(GRID_UM[0], protocol.axial_mm * 1000)
    place_um = max(GRID_UM[1], lateral_um)
    shape = (frames, int(700 / step_um) + 2, int(columns * lateral_um / place_um) + 2)
    choroid = np.zeros(shape, np.float32)
    for size_um, depth_db in ((FINE_UM, 2.6), (COARSE_UM, 2.2)):
        sigma = (size_um[1] / frame_um, size_um[0] / step_um, size_um[1] / place_um)
        choroid += depth_db * _smooth_noise(rng, shape, sigma)
    return Tissue(layers, choroid, step_um, place_um / lateral_um)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is in front of the scanner: surfaces, textures, thickness of the choroid."""

    surfaces: Surfaces
    tissue: Tissue
    choroid_um: float


def signal(
    scene: Scene, scanner: Scanner, protocol: Protocol, chunk: slice
) -> Float32[np.ndarray, "frames rows columns"]:
    """Draw the mean intensity over the noise floor for the frames of one chunk."""
    level = _layer_levels(scene, scanner, chunk)
    depth_px = scene.surfaces.depth_um[:, chunk] / (protocol.axial_mm * 1000)
    volume = _stacked_steps(depth_px, level, protocol.rows)
    _add_below_bruch(volume, scene, scanner, protocol.axial_mm * 1000, chunk)
    np.maximum(volume, 0.0, out=volume)
    return volume


def _layer_levels(scene: Scene, scanner: Scanner, chunk: slice) -> Float32[np.ndarray, "11 frames columns"]:
    """Give each layer's intensity along the B-scan; below the ganglion cells a vessel casts its shadow."""
    surfaces, tissue = scene.surfaces, scene.tissue
    lost_db = 32.0 - scanner.snr_db
    layer_db = np.array(list(LAYER_DB.values()), np.float32)[:, None, None] - np.float32(lost_db)
    layer_db = layer_db + tissue.layers_db[:, chunk]
    thickness_um = np.diff(surfaces.depth_um[:3, chunk], axis=0)
    layer_db[0] -= THIN_LOSS_DB * np.exp(-thickness_um[0] / 12)
    layer_db[LAYERS.index("OPL")] -= THIN_LOSS_DB * np.exp(-thickness_um[1] / 9)
    level: Float32[np.ndarray, "11 frames columns"] = np.power(np.float32(10), layer_db / 10).astype(np.float32)
    vessel = surfaces.vessel[chunk].astype(np.float32)
    level[:2] *= 1 + 0.5 * vessel
    level[2:] *= 1 - SHADOW * vessel
    return level


def _stacked_steps(
    depth_px: Float64[np.ndarray, "12 f c"], level: Float32[np.ndarray, "11 f c"], rows: int
) -> Float32[np.ndarray, "f rows c"]:
    """Fill the space between surfaces; a voxel that a surface cuts gets the share of each side."""
    frames, columns = depth_px.shape[1:]
    edges = np.zeros((frames, rows + 2, columns), np.float32)
    at_frame, at_column = np.ogrid[:frames, :columns]
    padded = np.concatenate([np.zeros_like(level[:1]), level, np.zeros_like(level[:1])])
    for depth, step in zip(np.clip(depth_px, 0, rows), np.diff(padded, axis=0), strict=True):
        row = depth.astype(np.intp)
        share = (depth - row).astype(np.float32)
        edges[at_frame, row, at_column] += step * (1 - share)
        edges[at_frame, row + 1, at_column] += step * share
    return np.cumsum(edges, axis=1, dtype=np.float32)[:, :rows]


def _add_below_bruch(
    volume: Float32[np.ndarray, "f rows c"], scene: Scene, scanner: Scanner, pixel_um: float, chunk: slice
) -> None:
    """Add choroid, sclera and the tissue of the disc below the last surface, in its coordinates."""
    _, rows, columns = volume.shape
    bruch_row = scene.surfaces.depth_um[-1, chunk] / pixel_um
    below_um = (np.arange(rows) + 0.5) * pixel_um
    shadow = (1 - SHADOW * scene.surfaces.vessel[chunk]).astype(np.float32)
    for i in range(volume.shape[0]):
        frame = chunk.start + i
        texture_db = _texture_on_grid(scene.tissue, below_um, columns, frame)
        table = _below_table(texture_db, scanner, scene.choroid_um, below_um)
        disc = scene.surfaces.disc[frame].astype(np.float32)
        disc_db = DISC_DB - 32.0 + scanner.snr_db - DISC_LOSS_DB_PER_MM * below_um / 1000
        core = np.power(10.0, disc_db / 10).astype(np.float32)[:, None]
        table = (table * (1 - disc) + core * disc) * shadow[i]
        row = np.arange(rows)[:, None] - np.round(bruch_row[i]).astype(np.intp)
        volume[i] += np.where(row >= 0, np.take_along_axis(table, np.maximum(row, 0), axis=0), np.float32(0))


def _texture_on_grid(
    tissue: Tissue, below_um: Float64[np.ndarray, " rows"], columns: int, frame: int
) -> Float32[np.ndarray, "rows columns"]:
    """Interpolate one frame of the choroid's texture to every depth and column."""
    texture = tissue.choroid_db[frame]
    place = np.arange(columns) / tissue.place_step_px
    left = place.astype(np.intp)
    along = (place - left).astype(np.float32)
    texture = texture[:, left] * (1 - along) + texture[:, left + 1] * along
    depth = np.minimum(below_um / tissue.depth_step_um, texture.shape[0] - 1.001)
    upper = depth.astype(np.intp)
    down = (depth - upper).astype(np.float32)[:, None]
    on_grid: Float32[np.ndarray, "rows columns"] = texture[upper] * (1 - down) + texture[upper + 1] * down
    return on_grid


def _below_table(
    texture_db: Float32[np.ndarray, "rows columns"],
    scanner: Scanner,
    choroid_um: float,
    below_um: Float64[np.ndarray, " rows"],
) -> Float32[np.ndarray, "rows columns"]:
    """Tabulate choroid and sclera by depth below Bruch's membrane for every column of one frame."""
    in_choroid = 1 / (1 + np.exp((below_um - choroid_um) / 25))
    mean_db = CHOROID_DB - 32.0 + scanner.snr_db - scanner.choroid_loss_db_per_mm * below_um / 1000
    mean_db = mean_db + 4 * np.exp(-below_um / 14) - SCLERA_DROP_DB * (1 - in_choroid)
    shown = (0.25 + 0.75 * in_choroid) * (1 - np.exp(-below_um / 18))
    level_db = texture_db * shown.astype(np.float32)[:, None] + mean_db.astype(np.float32)[:, None]
    table: Float32[np.ndarray, "rows columns"] = np.power(np.float32(10), level_db / 10).astype(np.float32)
    return table


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], sigma: tuple[float, float, float]
) -> Float32[np.ndarray, "a b c"]:
    """Draw noise of unit deviation and this smoothness; where the grid is coarser than the texture, it averages out."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    usable = tuple(s if s > 0.25 else 0.0 for s in sigma)
    noise = gaussian_filter(noise, usable, mode="wrap", truncate=2.5)
    fading = np.prod([min(1.0, 2 * s) for s in sigma[1:] if s > 0]) ** 0.5
    return (noise * np.float32(fading / max(float(noise.std()), 1e-9))).astype(np.float32)
