"""Find the foveal pit in a macular raster: where the retina, from inner border to pigment epithelium, dips."""

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.ndimage import gaussian_filter, median_filter, zoom

from reports.anatomy.scan import ScanGeometry
from reports.anatomy.token_map import nasal_side

A_SCANS = 128  # a side of the thickness map
EDGE_SHARE = 0.3  # of the way from the noise floor to the brightest tissue
THINNEST_MM, THICKEST_MM = 0.08, 0.6  # between inner border and pigment epithelium, fovea to parafovea and swelling
SMOOTH_MM = 0.3
ROUGHEST_MM = 0.04  # median deviation of A-scans from the smooth map; more is noise, not a retina
REACH_MM = 1.5  # fixation is rarely further off
SHALLOWEST_MM = 0.03
"""Centre against the ring at 1 to 1.5 mm. Healthy eyes dip by about 0.08 mm (BMC Ophthalmol 2018;18:169, table 6)."""


def find_foveal_pit(voxels: Shaped[np.ndarray, "n rows columns"], scan: ScanGeometry) -> tuple[float, float] | None:
    """Give the place of the pit, nasal and superior mm from the centre of the scan; None where no clear dip is seen.

    voxels: frames spread evenly over the whole raster. Simple on purpose: brightness, one threshold, one smooth map.
    """
    if scan.spacing_mm is None or scan.shows_disc:  # the disc's cup would be taken for a pit
        return None
    thickness = thickness_mm(voxels, scan.spacing_mm[1])
    frames, columns = thickness.shape
    step_mm = (scan.height_mm / frames, scan.width_mm / columns)
    smooth = gaussian_filter(thickness, [SMOOTH_MM / step for step in step_mm], mode="nearest")
    if np.median(np.abs(thickness - smooth)) > ROUGHEST_MM:
        return None
    y = -(np.arange(frames) + 0.5 - frames / 2) * step_mm[0]
    x = (np.arange(columns) + 0.5 - columns / 2) * step_mm[1]
    from_centre = np.hypot(y[:, None], x[None, :])
    row, column = np.unravel_index(np.where(from_centre <= REACH_MM, smooth, np.inf).argmin(), smooth.shape)
    from_pit = np.hypot(y[:, None] - y[row], x[None, :] - x[column])
    ring = smooth[(from_pit >= 1.0) & (from_pit <= 1.5)]
    if ring.size == 0 or np.median(ring) - smooth[row, column] < SHALLOWEST_MM:
        return None
    return float(nasal_side(scan.eye) * x[column]), float(y[row])


def thickness_mm(voxels: Shaped[np.ndarray, "n rows columns"], axial_mm: float) -> Float64[np.ndarray, "n a_scans"]:
    """Measure, for each A-scan of a coarse map, the distance from the inner border to the brightest row below it."""
    columns = min(A_SCANS, voxels.shape[2])
    coarse = np.stack([zoom(frame.astype(np.float32), (1, columns / frame.shape[1]), order=1) for frame in voxels])
    smooth = gaussian_filter(coarse.astype(np.float64), (0.7, 0.012 / axial_mm, 1.0))
    floor, brightest = np.percentile(smooth, (10, 99.5))
    inside = smooth > floor + EDGE_SHARE * (brightest - floor)
    border = inside.argmax(axis=1)
    rows = np.arange(smooth.shape[1])[None, :, None] - border[:, None, :]
    below = (rows >= THINNEST_MM / axial_mm) & (rows <= THICKEST_MM / axial_mm)
    epithelium = np.where(below, smooth, -np.inf).argmax(axis=1)
    measured: Float64[np.ndarray, "n a_scans"] = median_filter((epithelium - border) * axial_mm, size=(3, 5))
    return measured
