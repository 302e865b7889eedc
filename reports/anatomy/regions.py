"""Parts of a scan that have a name: ETDRS sectors where there is a raster, ninths of the scan where there is none.

The ETDRS grid (Early Treatment Diabetic Retinopathy Study, report 7, 1985): a centre of 0.5 mm radius, an inner ring to
1.5 mm and an outer ring to 3 mm, each ring in four quadrants whose borders lie on the diagonals.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from embeddings_store.schema import Eye
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen
from reports.anatomy.token_map import EnFace, token_points

RADII_MM = (0.5, 1.5, 3.0)
QUADRANTS = ("nasal", "superior", "temporal", "inferior")
SECTORS = ("centre", *(f"{ring}-{side}" for ring in ("inner", "outer") for side in QUADRANTS))
OUTSIDE = "outside"
BANDS = ("upper rows", "middle rows", "lower rows")
FINE = 4  # points a side of a token, by which it is given to the sector that holds most of it


@dataclass(frozen=True)
class Regions:
    """A partition of a token grid.

    names: one a region. label: number of the region of each token. kind: "etdrs", "ninths" or "bands".
    centred_on: what the grid is centred on, in words for a caption.
    """

    names: tuple[str, ...]
    label: Int64[np.ndarray, "gd gh gw"]
    kind: str
    centred_on: str

    @property
    def empty(self) -> tuple[str, ...]:
        """Name the regions that no token belongs to: the grid is too coarse for them, or the scan too small."""
        held = set(np.unique(self.label).tolist())
        return tuple(name for number, name in enumerate(self.names) if number not in held)


def en_face_regions(
    scan: ScanGeometry,
    grid: tuple[int, int, int],
    centre_mm: tuple[float, float] | None = None,
    seen: Seen = WHOLE,
) -> Regions:
    """Divide the retina's plane: ETDRS sectors and what lies outside; ninths of the scan where there is no raster.

    centre_mm: nasal and superior place of the foveal pit, where one was found; None: the centre of the scan.
    """
    depth, height, width = grid
    if scan.spacing_mm is None or scan.shows_disc:
        flat, names, kind = _ninths(scan, depth, width, seen), _ninth_names(scan), "ninths"
        said = f"ninths of the scan: {scan.why_no_raster or 'ETDRS sectors are those of the macula, not of the disc'}"
    else:
        points = token_points(scan, depth, width, fine=FINE, seen=seen)
        flat, kind = _sectors(points, centre_mm or (0.0, 0.0)), "etdrs"
        names = (*SECTORS, OUTSIDE)
        said = "the foveal pit that was found" if centre_mm else "the centre of the scan"
    return Regions(names, np.repeat(flat[:, None, :], height, axis=1), kind, said)


def axial_bands(grid: tuple[int, int, int], seen: Seen = WHOLE) -> Regions:
    """Divide the depth of the image into thirds; these are image rows, not layers of the retina."""
    top, bottom = seen.rows
    rows = _third(top + (bottom - top) * np.arange(grid[1]) / grid[1])
    label = np.broadcast_to(rows[None, :, None], grid).astype(np.int64)
    return Regions(BANDS, label, "bands", "the image")


def sector_of(points: EnFace, centre_mm: tuple[float, float]) -> Int64[np.ndarray, "*shape"]:
    """Number the ETDRS sector of each point, as in SECTORS; len(SECTORS) outside the grid."""
    nasal, superior = points.nasal_mm - centre_mm[0], points.superior_mm - centre_mm[1]
    ring = np.digitize(np.hypot(nasal, superior), RADII_MM)
    quadrant = np.floor((np.degrees(np.arctan2(superior, nasal)) + 45) % 360 / 90).astype(np.int64)
    number = np.where(ring == 0, 0, 1 + (ring - 1) * len(QUADRANTS) + quadrant)
    return np.where(ring == len(RADII_MM), len(SECTORS), number).astype(np.int64)


def _sectors(points: EnFace, centre_mm: tuple[float, float]) -> Int64[np.ndarray, "gd gw"]:
    """Give each token column to the sector that holds most of its points; of equals, to the one nearer the centre."""
    of_points = sector_of(points, centre_mm)
    held = np.stack([(of_points == number).sum(axis=2) for number in range(len(SECTORS) + 1)])
    return np.asarray(held.argmax(axis=0), dtype=np.int64)


def _ninths(scan: ScanGeometry, depth: int, width: int, seen: Seen) -> Int64[np.ndarray, "gd gw"]:
    slab = _third(np.arange(depth) / depth if seen.frames is None else seen.frames / scan.frames)
    left, right = seen.columns
    part = _third(left + (right - left) * np.arange(width) / width)
    if scan.eye is Eye.LEFT:
        part = 2 - part
    return np.asarray(slab[:, None] * 3 + part[None, :], dtype=np.int64)


def _third(places: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Number the third that each place, of 0 to 1, lies in."""
    return np.minimum((places * 3 + 1e-9).astype(np.int64), 2)


def _ninth_names(scan: ScanGeometry) -> tuple[str, ...]:
    sides = ("left", "middle", "right") if scan.eye is Eye.UNKNOWN else ("temporal", "middle", "nasal")
    borders = [-(-scan.frames * third // 3) for third in range(4)]  # the first frame of each, as _third counts
    slabs = [f"frames {low + 1}-{high}" for low, high in pairwise(borders)]
    return tuple(f"{slab}, {side}" for slab in slabs for side in sides)
