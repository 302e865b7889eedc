"""Where a scan lies in space: as its own file says it, or in a frame of reference of its own.

A map that names the scan's frame of reference asserts that both lie where they say: it may do so only with the
positions and the orientation of the file.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset

from extract.dicom.geometry import read_items, read_numbers, read_positions
from reports.anatomy.affine import centred_affine_lps
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen

LARGEST_DEVIATION = 0.02
"""In parts of a step: how far a frame may lie from where equal steps would put it."""


@dataclass(frozen=True)
class Placement:
    """affine: from stored frame, row and column, counted from 0, to mm, LPS, at voxel centres.

    frame_of_reference: the UID of the file, whose coordinates these are; None: the scan's centre is the origin.
    """

    affine: Float64[np.ndarray, "4 4"]
    frame_of_reference: str | None

    def of_tokens(
        self, scan: ScanGeometry, grid: tuple[int, int, int], seen: Seen = WHOLE
    ) -> Float64[np.ndarray, "4 4"]:
        """Return the affine, at the tokens' centres, of a grid over all frames and what was seen of each."""
        (top, bottom), (left, right) = seen.rows, seen.columns
        size = np.array([scan.frames, scan.rows, scan.columns])
        step = size * np.array([1.0, bottom - top, right - left]) / np.array(grid)
        tokens = np.diag([*step, 1.0])
        tokens[:3, 3] = size * np.array([0.0, top, left]) + step / 2 - 0.5
        return np.asarray(self.affine @ tokens)


def find_placement(scan: ScanGeometry, header: Dataset | None) -> Placement:
    """Return where the file puts its frames, or a place of the scan's own where it does not say, or puts none evenly.

    Positions go before a distance between frames that the file states elsewhere.

    header: of the whole scan's file; None where there is none. Raises: ValueError for a scan without a raster.
    """
    own = centred_affine_lps(scan)
    uid = str(header.get("FrameOfReferenceUID") or "") if header is not None else ""
    affine = _affine_of_file(scan, header) if header is not None and uid else None
    return Placement(own, None) if affine is None else Placement(affine, uid)


def _affine_of_file(scan: ScanGeometry, header: Dataset) -> Float64[np.ndarray, "4 4"] | None:
    positions, orientation = read_positions([header]), _orientation(header)
    if positions is None or orientation is None or scan.spacing_mm is None or len(positions) != scan.frames:
        return None
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    length = float(np.linalg.norm(step))
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    if not length > 0 or float(np.linalg.norm(positions - expected, axis=1).max()) > LARGEST_DEVIATION * length:
        return None
    along_row, down = orientation
    axes = np.column_stack([step / length, down, along_row])
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        return None
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([length, *scan.spacing_mm[1:]])
    affine[:3, 3] = positions[0]
    return affine


def _orientation(header: Dataset) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, " 3"]] | None:
    """Return the directions along a row and down a column; None unless the file says one for all frames."""
    groups = [
        group
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in read_items(header, keyword)
    ]
    items = [item for group in groups for item in read_items(group, "PlaneOrientationSequence")]
    found = [read_numbers(item, "ImageOrientationPatient") for item in items]
    if not found or any(one is None or len(one) != 6 or one != found[0] for one in found):
        return None
    numbers = np.array(found[0], dtype=np.float64)
    return numbers[:3], numbers[3:]
