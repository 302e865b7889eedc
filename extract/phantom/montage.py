"""Look at what was made: one panel a protocol, millimetres true to scale, titled SYNTHETIC PHANTOM."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from jaxtyping import UInt8

from extract.phantom.dicom_file import BANNER, Identity
from extract.phantom.plan import Plan
from extract.phantom.scanners import SCANNERS, Protocol

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

SHOWN_DEPTH_MM = 1.5
WIDTH_INCH = 14.0
DOTS_PER_INCH = 100
GREY_STEP = 8
"""Speckle does not compress: 32 grey levels look the same and take a third of the space."""


def write_montage(root: Path, plan: Plan, path: Path) -> None:
    """Draw the middle B-scan of the first right eye of each protocol in a finished bucket; true mm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    panels = [(plan.protocol(name), _middle_frame(root, plan.seed, name)) for name in plan.protocols]
    rows = _rows_of_panels([(protocol, frame) for protocol, frame in panels if frame is not None])
    widest_mm = max(sum(_width_mm(protocol) for protocol, _ in row) for row in rows)
    inch_per_mm = (WIDTH_INCH - 0.2) / widest_mm
    row_inch = SHOWN_DEPTH_MM * inch_per_mm + 0.32
    height = 0.5 + row_inch * len(rows)
    figure = Figure(figsize=(WIDTH_INCH, height), dpi=DOTS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    figure.text(0.5, 1 - 0.3 / height, f"{BANNER}: no person was scanned", color="white", ha="center", size=15)
    for number, row in enumerate(rows):
        left = 0.1
        for protocol, frame in row:
            wide, deep = _width_mm(protocol) * inch_per_mm, SHOWN_DEPTH_MM * inch_per_mm
            bottom = height - 0.5 - (number + 1) * row_inch
            box = (left / WIDTH_INCH, bottom / height, (wide - 0.08) / WIDTH_INCH, deep / height)
            axes = figure.add_axes(box)
            axes.imshow(_around_retina(frame, protocol), cmap="gray", vmin=0, vmax=255, aspect="auto")
            axes.set_axis_off()
            axes.set_title(_caption(protocol), color="white", size=10, pad=3)
            left += wide
    drawn = BytesIO()
    figure.savefig(drawn, format="png", facecolor="black")
    picture = np.asarray(Image.open(drawn).convert("L"))
    Image.fromarray(picture // GREY_STEP * GREY_STEP).save(path, format="PNG", optimize=True, pnginfo=_banner())


def _rows_of_panels(
    panels: list[tuple[Protocol, UInt8[np.ndarray, "rows columns"]]],
) -> list[list[tuple[Protocol, UInt8[np.ndarray, "rows columns"]]]]:
    """Fill rows up to the width of the widest panel."""
    limit_mm = 1.01 * max(_width_mm(protocol) for protocol, _ in panels)
    rows: list[list[tuple[Protocol, UInt8[np.ndarray, "rows columns"]]]] = []
    for panel in sorted(panels, key=lambda panel: -round(_width_mm(panel[0]))):
        home = next((row for row in rows if sum(_width_mm(p) for p, _ in [*row, panel]) <= limit_mm), None)
        if home is None:
            rows.append([panel])
        else:
            home.append(panel)
    return rows


def _middle_frame(root: Path, seed: int, protocol: str) -> UInt8[np.ndarray, "rows columns"] | None:
    candidates = sorted(root.glob(f"retinal_oct/structural_oct/*/*/*_{protocol}_oct*_r_*.dcm"))
    found = [path for path in candidates if path.stem.endswith(_healthy_uid(path.parent.name, seed, protocol))]
    if not found:
        return None
    voxels = pydicom.dcmread(found[0]).pixel_array
    return np.asarray(voxels[voxels.shape[0] // 2])


def _banner() -> "PngInfo":
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Title", BANNER)
    return info


def _healthy_uid(participant: str, seed: int, protocol: str) -> str:
    return Identity(participant, seed).uid("scan", protocol, "R")


def _around_retina(frame: UInt8[np.ndarray, "rows columns"], protocol: Protocol) -> UInt8[np.ndarray, "shown columns"]:
    """Crop to SHOWN_DEPTH_MM around the brightest depth; pad with black where the scan ends."""
    shown = round(SHOWN_DEPTH_MM / protocol.axial_mm)
    weight = np.clip(frame.astype(np.float64) - np.median(frame), 0, None).sum(axis=1)
    middle = float(np.average(np.arange(len(weight)), weights=weight + 1e-9))
    first = int(np.clip(middle - shown / 2, 0, max(0, frame.shape[0] - shown)))
    part = frame[first : first + shown]
    return np.pad(part, ((0, shown - len(part)), (0, 0)))


def _width_mm(protocol: Protocol) -> float:
    return protocol.columns * protocol.lateral_mm


def _caption(protocol: Protocol) -> str:
    return f"{SCANNERS[protocol.device].model}   {protocol.name}   {_width_mm(protocol):.1f} mm wide"
