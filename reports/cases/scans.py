"""One scan of a case: what it gave to the evidence, where that lies in the eye, and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, UInt8

from reports.anatomy.regions import Regions
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen
from reports.attribution.encoder_evidence import EncoderEvidence
from reports.attribution.heat_map import HeatMap
from reports.attribution.volume import VolumeEvidence
from reports.cases.images import ScanImages, draw_scan, draw_thumbnail
from reports.cases.sources import FetchedScan

NO_BUCKET = "no --bucket was given"
BRIGHTEST_SHARE = 0.98
"""Of tokens; the few above it are painted as opaque as this."""

Evidence: TypeAlias = VolumeEvidence | EncoderEvidence
"""Of a probe, from stored tokens alone; of a fine-tuned model, from the volume through its encoder."""


@dataclass(frozen=True)
class Bar:
    """One region's value. width: share of the longest bar, 0 to 100."""

    name: str
    value: float
    width: float


@dataclass(frozen=True)
class ScanCase:
    """One scan as a case page shows it; what could not be made says why.

    line: what the store's index or the file says of it: protocol, eye ... thumbnail: the store's, in place of pictures.
    seen: what its maps lie on.
    """

    line: Mapping[str, Any]
    geometry: ScanGeometry
    evidence: Evidence | None
    why_no_evidence: str
    fetched: FetchedScan | None
    why_no_pictures: str
    pit_mm: tuple[float, float] | None
    thumbnail: UInt8[np.ndarray, "8 32 32"] | None = None
    slices: tuple[str, ...] = ()
    images: ScanImages | None = None
    seen: Seen = WHOLE

    @property
    def maps(self) -> tuple[HeatMap, ...]:
        """Give what can be painted over it, the most telling first."""
        return self.evidence.maps if self.evidence else ()


def with_images(scans: Sequence[ScanCase]) -> list[ScanCase]:
    """Draw the pictures of a case, maps of evidence on one scale for all of its scans."""
    largest = _scales([one for scan in scans for one in scan.maps if one.in_evidence])
    return [_drawn(scan, largest) for scan in scans]


def _drawn(scan: ScanCase, largest: Mapping[str, float]) -> ScanCase:
    if scan.fetched is None:
        return scan if scan.thumbnail is None else replace(scan, slices=draw_thumbnail(scan.thumbnail))
    voxels, numbers = scan.fetched.shown
    count = scan.fetched.volume.frame_count
    return replace(scan, images=draw_scan(voxels, numbers, count, scan.maps, largest, scan.seen))


def _scales(maps: Sequence[HeatMap]) -> dict[str, float]:
    names = {one.name for one in maps}
    of_name = {name: np.concatenate([np.abs(one.values).ravel() for one in maps if one.name == name]) for name in names}
    return {name: float(np.quantile(values, BRIGHTEST_SHARE)) for name, values in of_name.items()}


def region_bars(regions: Regions, values: Float64[np.ndarray, " r"]) -> list[Bar]:
    """Give one bar a region that holds a token."""
    longest = float(np.abs(values).max()) or 1.0
    return [
        Bar(name, float(value), 100 * abs(float(value)) / longest)
        for name, value in zip(regions.names, values, strict=True)
        if name not in regions.empty
    ]
