"""Where a token grid lies in space, for viewers: the scan's centre is the origin, directions are the patient's.

B-scans are stored as seen from the front, the first frame superior: along a row lies the patient's left (nasal for a
right eye, temporal for a left one), down the columns posterior, and frames go from superior to inferior. A source that
tells no position of its own leaves no other choice of origin.
"""

import numpy as np
from jaxtyping import Float64

from reports.anatomy.scan import ScanGeometry

LEFT, POSTERIOR, INFERIOR = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)
"""Unit vectors of DICOM's patient coordinates, LPS (PS3.3, C.7.6.2.1.1)."""


def token_affine_lps(scan: ScanGeometry, grid: tuple[int, int, int]) -> Float64[np.ndarray, "4 4"]:
    """Map token numbers (slab, row, column) to mm, LPS, at the tokens' centres.

    Raises: ValueError for a scan without a raster: no millimetres are invented.
    """
    if scan.spacing_mm is None:
        raise ValueError(f"places in mm need a raster: {scan.why_no_raster}")
    extent = np.array([scan.height_mm, scan.rows * scan.spacing_mm[1], scan.width_mm])
    step = extent / np.array(grid)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([INFERIOR, POSTERIOR, LEFT]) * step
    affine[:3, 3] = affine[:3, :3] @ (0.5 - np.array(grid) / 2)
    return affine


def lps_to_ras(affine: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Turn DICOM's axes into those of NIfTI: right, anterior, superior."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
