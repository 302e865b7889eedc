"""Where each A-scan of an acquisition meets the retina."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from embeddings_store.schema import Eye
from extract.phantom.eye import DISC_CENTRE_MM
from extract.phantom.scanners import Protocol

CIRCLE_DIAMETERS_MM = (3.5, 4.1, 4.7)
CIRCLES_PER_FRAME = 3 / 27


@dataclass(frozen=True, slots=True, eq=False)
class ScanPattern:
    """Places of the A-scans in the eye's own coordinates (mm from the fovea), and the lateral spacing of each frame."""

    nasal_mm: Float64[np.ndarray, "frames columns"]
    superior_mm: Float64[np.ndarray, "frames columns"]
    lateral_mm: Float64[np.ndarray, " frames"]


def scan_pattern(protocol: Protocol, eye: Eye, offset_mm: tuple[float, float] = (0.0, 0.0)) -> ScanPattern:
    """Lay the scan on the retina; offset_mm (nasal, superior) is how far fixation was off.

    Images show a right eye with its nasal side on the right and a left eye mirrored. The first frame of a raster is
    the superior one.
    """
    right, up, lateral = _radial_circle(protocol) if protocol.radial else _raster(protocol)
    nasal = right if eye is Eye.RIGHT else -right
    centre = {"fovea": (0.0, 0.0), "disc": DISC_CENTRE_MM, "between": (DISC_CENTRE_MM[0] / 2, 0.0)}[protocol.centre]
    return ScanPattern(nasal + centre[0] + offset_mm[0], up + centre[1] + offset_mm[1], lateral)


def _raster(
    protocol: Protocol,
) -> tuple[Float64[np.ndarray, "f c"], Float64[np.ndarray, "f c"], Float64[np.ndarray, " f"]]:
    across = (np.arange(protocol.columns) - (protocol.columns - 1) / 2) * protocol.lateral_mm
    down = ((protocol.frames - 1) / 2 - np.arange(protocol.frames)) * protocol.frame_mm
    right, up = np.meshgrid(across, down)
    return right, up, np.full(protocol.frames, protocol.lateral_mm)


def _radial_circle(
    protocol: Protocol,
) -> tuple[Float64[np.ndarray, "f c"], Float64[np.ndarray, "f c"], Float64[np.ndarray, " f"]]:
    """Lines through the centre, then circles around it: 24 and 3 at full size."""
    circles = min(3, max(1, round(protocol.frames * CIRCLES_PER_FRAME)))
    lines = protocol.frames - circles
    across = (np.arange(protocol.columns) - (protocol.columns - 1) / 2) * protocol.lateral_mm
    angles = np.arange(lines) * np.pi / lines
    diameters = np.array(CIRCLE_DIAMETERS_MM[:circles])
    around = 2 * np.pi * np.arange(protocol.columns) / protocol.columns
    right = np.vstack([np.outer(np.cos(angles), across), np.outer(diameters / 2, np.cos(around))])
    up = np.vstack([np.outer(np.sin(angles), across), np.outer(diameters / 2, np.sin(around))])
    spacing = np.concatenate([np.full(lines, protocol.lateral_mm), np.pi * diameters / protocol.columns])
    return right, up, spacing
