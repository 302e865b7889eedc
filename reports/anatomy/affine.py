"""Where a scan lies in space if its file does not say: its centre is the origin, directions are the patient's.

B-scans are stored as seen from the front, the first frame superior: along a row lies the patient's left (nasal for a
right eye, temporal for a left one), down the columns posterior, and frames go from superior to inferior. A source that
tells no position of its own leaves no other choice of origin.
"""

import numpy as np
from jaxtyping import Float64

from reports.anatomy.scan import ScanGeometry

LEFT, POSTERIOR, INFERIOR = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)
"""Unit vectors of DICOM's patient coordinates, LPS (PS3.3, C.7.6.2.1.1)."""


def centred_affine_lps(scan: ScanGeometry) -> Float64[np.ndarray, "4 4"]:
    """Map stored frame, row and column, counted from 0, to mm, LPS, at voxel centres; the scan's centre is the origin.

    Raises: ValueError for a scan without a raster: no millimetres are invented.
    """
    if scan.spacing_mm is None:
        raise ValueError(f"places in mm need a raster: {scan.why_no_raster}")
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([INFERIOR, POSTERIOR, LEFT]) * np.array(scan.spacing_mm)
    affine[:3, 3] = affine[:3, :3] @ (0.5 - np.array([scan.frames, scan.rows, scan.columns]) / 2)
    return affine


def lps_to_ras(affine: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Turn DICOM's axes into those of NIfTI: right, anterior, superior."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
