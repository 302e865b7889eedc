"""What a case page says and where its lines lie, computed apart from how it is drawn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from embeddings_store.schema import Eye
from reports.anatomy.regions import RADII_MM
from reports.anatomy.scan import RADIAL_PROTOCOLS, ScanGeometry
from reports.anatomy.token_map import nasal_side
from reports.cases.images import ScanImages
from reports.cases.scans import ScanCase
from reports.cases.words import Told, tell

UNITS_A_MM = 100
UNSCALED = (400.0, 300.0)
SIDES = {"R": ("T", "N"), "L": ("N", "T"), "U": ("", "")}
"""Temporal and nasal ends of a B-scan as stored: left, right."""


@dataclass(frozen=True, slots=True)
class Rings:
    """The ETDRS grid over an en-face picture, in its units."""

    x: float
    y: float
    radii: tuple[float, ...]
    spokes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class ScanView:
    """One scan as the template shows it. en_face_size: None where frames are angles and no raster can be drawn.

    caption: of the pictures. told: of the evidence, None where there is none.
    """

    scan: ScanCase
    en_face_size: tuple[float, float] | None
    rings: Rings | None
    frame_lines: tuple[float, ...]
    caption: str
    told: Told | None


def view_scan(scan: ScanCase) -> ScanView:
    """Lay one scan out."""
    size = en_face_size(scan.geometry)
    images: ScanImages | None = scan.images
    lines: tuple[float, ...] = ()
    if size is not None and images is not None:
        lines = tuple((frame - 0.5) / scan.geometry.frames * size[1] for frame in images.frames)
    has_sectors = scan.evidence is not None and scan.evidence.en_face.kind == "etdrs"
    rings = lay_rings(scan.geometry, scan.pit_mm) if has_sectors else None
    told = tell(scan.evidence) if scan.evidence else None
    parts = (_caption(scan), told.painted if told else "", _covered(scan) if told else "")
    caption = " ".join(part for part in parts if part)
    return ScanView(scan, size, rings, lines, caption, told)


def en_face_size(scan: ScanGeometry) -> tuple[float, float] | None:
    """Give width and height of an en-face picture: to scale where spacing is told; None for radial protocols."""
    if scan.protocol in RADIAL_PROTOCOLS:
        return None
    return UNSCALED if scan.spacing_mm is None else (scan.width_mm * UNITS_A_MM, scan.height_mm * UNITS_A_MM)


def lay_rings(scan: ScanGeometry, pit_mm: tuple[float, float] | None) -> Rings:
    """Put the ETDRS grid where the sectors were counted: on the foveal pit, or on the centre of the scan."""
    nasal, superior = pit_mm or (0.0, 0.0)
    x = (scan.width_mm / 2 + nasal_side(scan.eye) * nasal) * UNITS_A_MM
    y = (scan.height_mm / 2 - superior) * UNITS_A_MM
    inner, outer = RADII_MM[0] * UNITS_A_MM, RADII_MM[-1] * UNITS_A_MM
    turns = [math.radians(angle) for angle in (45, 135, 225, 315)]
    spokes = tuple(
        (x + inner * math.cos(t), y + inner * math.sin(t), x + outer * math.cos(t), y + outer * math.sin(t))
        for t in turns
    )
    return Rings(x, y, tuple(radius * UNITS_A_MM for radius in RADII_MM), spokes)


def _caption(scan: ScanCase) -> str:
    geometry = scan.geometry
    if geometry.protocol in RADIAL_PROTOCOLS:
        return "Frames of this protocol are angles around a centre: no en-face map can be drawn."
    ends = {Eye.UNKNOWN: "The eye is not known: which side is nasal cannot be said."}.get(geometry.eye, "")
    scale = (
        f"En face {geometry.width_mm:.1f} x {geometry.height_mm:.1f} mm; T temporal, N nasal, S superior, I inferior, "
        "the first frame taken as superior."
        if geometry.spacing_mm
        else f"En face not to scale: {geometry.why_no_raster}."
    )
    return " ".join(part for part in (scale, ends) if part)


def _covered(scan: ScanCase) -> str:
    """Say what of the scan the encoder saw, where that is not all of it."""
    seen, said = scan.seen, []
    if seen.frames is not None:
        said.append(
            f"The encoder saw {len(seen.frames)} of {scan.geometry.frames} B-scans; each one shown is among them and "
            "carries its own map. Between them nothing is claimed."
        )
    if not seen.is_whole_frame:
        (top, bottom), (left, right) = seen.rows, seen.columns
        said.append(
            f"It saw {100 * (bottom - top):.0f} % of the rows and {100 * (right - left):.0f} % of the columns of each "
            "B-scan; outside of them nothing is painted."
        )
    return " ".join(said)


def spread_over_scans(volumes: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Say, for each class, the range of probabilities over a person's scans."""
    said = []
    for name in classes:
        values = volumes[f"probability_{name}"].dropna().to_numpy(np.float64)
        said.append(f"{100 * values.min():.0f} to {100 * values.max():.0f} %" if len(values) else "none")
    return said


def volume_lines(volumes: pd.DataFrame, in_words: Callable[[str], str]) -> list[dict[str, str]]:
    """Lay out the table of scans."""
    return [
        _volume_line({str(name): value for name, value in line.items()}, in_words)
        for line in volumes.sort_values(["protocol", "eye"], kind="stable").to_dict("records")
    ]


def _volume_line(line: dict[str, Any], in_words: Callable[[str], str]) -> dict[str, str]:
    novelty = line["ood_percentile"]
    said = (
        f"not predicted: {line['reason']}"
        if pd.isna(line.get("predicted", line.get("value")))
        else f"{line['value']:.4g}"
        if "value" in line
        else f"{in_words(line['predicted'])} {100 * line['confidence']:.0f}\u00a0%"
    )
    return {
        "protocol": str(line["protocol"]),
        "eye": str(line["eye"]),
        "said": f"{said} ({line['reason']})" if line["abstain"] and not said.startswith("not predicted") else said,
        "novelty": f"{novelty:.1f} %" if not pd.isna(novelty) else _why_no_novelty(line),
        "flags": str(line["flags"]),
        "nearest": "; ".join(_nearest(line, in_words)) or "none",
    }


def _why_no_novelty(line: dict[str, Any]) -> str:
    return "of train" if line["split_of_run"] == "train" else "absent"


def _nearest(line: dict[str, Any], in_words: Callable[[str], str]) -> list[str]:
    places = [name.removesuffix("_volume") for name in line if name.startswith("nearest_") and name.endswith("_volume")]
    return [
        f"{line[f'{place}_participant']} ({_label_of(line, place, in_words)}, {line[f'{place}_distance']:.2f})"
        for place in places
        if not pd.isna(line[f"{place}_distance"])
    ]


def _label_of(line: dict[str, Any], place: str, in_words: Callable[[str], str]) -> str:
    """Name the class of a training case, or its number."""
    return f"{line[f'{place}_value']:.4g}" if f"{place}_value" in line else in_words(line[f"{place}_class"])
