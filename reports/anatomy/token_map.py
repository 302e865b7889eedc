"""Where the tokens of a grid lie in the scan that they came from.

Where the encoder's input is the whole scan resized, edge on edge (align_corners=False), token (i, j, k) of a grid
[gd, gh, gw] covers frames i F/gd to (i + 1) F/gd, rows j R/gh to (j + 1) R/gh and columns k C/gw to (k + 1) C/gw.
Slices, and parts of frames: see ``Seen``.
A token has looked at all others: a place says where evidence was read, not where a lesion lies.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from embeddings_store.schema import Eye
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen


@dataclass(frozen=True)
class EnFace:
    """Points in the plane of the retina, mm from the centre of the scan; x to the right of the B-scan, y upwards.

    nasal_mm is x for a right eye and -x for a left one: B-scans are stored as seen, and the first frame of a raster
    is the superior one. Shapes are those of what was asked for.
    """

    nasal_mm: Float64[np.ndarray, "*shape"]
    superior_mm: Float64[np.ndarray, "*shape"]


def token_points(scan: ScanGeometry, depth: int, width: int, *, fine: int, seen: Seen = WHOLE) -> EnFace:
    """Spread fine x fine points evenly over each token column of a grid; shapes [depth, width, fine * fine].

    Raises: ValueError for a scan without a raster.
    """
    if scan.spacing_mm is None:
        raise ValueError(f"places in mm need a raster: {scan.why_no_raster}")
    along, down = seen.along(width, fine) - 0.5, seen.down(depth, fine, scan.frames) - 0.5
    x, y = np.meshgrid(along * scan.width_mm, -down * scan.height_mm)
    return EnFace(_by_token(nasal_side(scan.eye) * x, depth, width, fine), _by_token(y, depth, width, fine))


def nasal_side(eye: Eye) -> float:
    """Tell which way is nasal along a B-scan: 1 to the right (right eye, and unknown ones), -1 to the left."""
    return -1.0 if eye is Eye.LEFT else 1.0


def _by_token(
    values: Float64[np.ndarray, "rows columns"], depth: int, width: int, fine: int
) -> Float64[np.ndarray, "depth width points"]:
    parts = values.reshape(depth, fine, width, fine).transpose(0, 2, 1, 3)
    return parts.reshape(depth, width, fine * fine)


def native_edges(tokens: int, size: int) -> Float64[np.ndarray, " edges"]:
    """Give the borders of tokens along an axis in stored voxels: edges [tokens + 1], from 0 to size."""
    return np.linspace(0.0, float(size), tokens + 1)


def to_native(
    values: Float64[np.ndarray, "gd gh gw"], shape: tuple[int, int, int]
) -> Float64[np.ndarray, "frames rows columns"]:
    """Paint each token's value over the stored voxels whose centres it covers."""
    places = [
        np.minimum(((np.arange(size) + 0.5) * tokens / size).astype(np.int64), tokens - 1)
        for tokens, size in zip(values.shape, shape, strict=True)
    ]
    painted: Float64[np.ndarray, "frames rows columns"] = values[np.ix_(*places)]
    return painted
