"""What a row of the store, or a file itself, tells about the geometry of its scan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embeddings_store.schema import Eye, Note, VolumeRef
from extract.volume import Volume

RADIAL_PROTOCOLS = ("spectralis_onh_rc_hr",)
"""Lines through a centre, or circles: frames are angles, and no raster in millimetres can be drawn (DATA.md, 2)."""


@dataclass(frozen=True, slots=True)
class ScanGeometry:
    """Size, spacing and side of one scan.

    spacing_mm: between frames, axial, lateral; None where the file does not say, or says what cannot be.
    why_no_raster: the reason why places cannot be told in millimetres, "" where they can.
    """

    frames: int
    rows: int
    columns: int
    spacing_mm: tuple[float, float, float] | None
    eye: Eye
    protocol: str
    why_no_raster: str

    @property
    def shows_disc(self) -> bool:
        """True for protocols around the optic disc, where the sectors of the macula mean nothing."""
        return "_disc" in self.protocol or "_onh_" in self.protocol

    @property
    def height_mm(self) -> float:
        """Extent from the first frame to the last; NaN without a raster."""
        return self.frames * self.spacing_mm[0] if self.spacing_mm else math.nan

    @property
    def width_mm(self) -> float:
        """Extent along a B-scan; NaN without a raster."""
        return self.columns * self.spacing_mm[2] if self.spacing_mm else math.nan


def scan_geometry(line: Mapping[str, Any]) -> ScanGeometry:
    """Read the geometry from one line of a snapshot's index."""
    size = tuple(int(line[name]) for name in ("frames", "rows", "columns"))
    told = tuple(float(line[f"spacing_{way}_mm"]) for way in ("frame", "axial", "lateral"))
    return _geometry(size, told, Eye(str(line["eye"])), str(line["protocol"]), int(line["notes"]))


def volume_geometry(volume: Volume, ref: VolumeRef) -> ScanGeometry:
    """Read the geometry from a file itself; eye and protocol are those of its key."""
    facts = volume.facts
    told = facts.spacing_mm or (math.nan, math.nan, math.nan)
    return _geometry((facts.frames, facts.rows, facts.columns), told, ref.eye, ref.protocol, int(facts.notes))


def _geometry(size: tuple[int, ...], told: tuple[float, ...], eye: Eye, protocol: str, notes: int) -> ScanGeometry:
    reason = _why_no_raster(told, protocol, notes)
    spacing = None if reason else (told[0], told[1], told[2])
    frames, rows, columns = size
    return ScanGeometry(frames, rows, columns, spacing, eye, protocol, reason)


def _why_no_raster(told: tuple[float, ...], protocol: str, notes: int) -> str:
    if protocol in RADIAL_PROTOCOLS:
        return "the frames of this protocol are angles around a centre, not a raster"
    if notes & Note.SPACING_UNRELIABLE:
        return "the file's distance between frames is known to be wrong (Cirrus converter)"
    if not all(math.isfinite(number) and number > 0 for number in told):
        return "the file does not tell the spacing"
    return ""
