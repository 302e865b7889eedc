"""One scan of a case: what its tokens gave to the evidence, where that lies in the eye, and its pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from classify.model import FittedModel
from embeddings_store.errors import OctProbeError
from embeddings_store.reader import StoreReader
from extract.bucket.source import Source
from reports.anatomy.foveal_pit import find_foveal_pit
from reports.anatomy.regions import axial_bands, en_face_regions
from reports.anatomy.scan import ScanGeometry, scan_geometry
from reports.attribution.volume import Controls, RegionShares, VolumeEvidence, explain_volume
from reports.cases.images import ScanImages, draw_scan
from reports.cases.sources import FetchedScan, fetch_scan, ref_of


@dataclass(frozen=True)
class Bar:
    """One region's share of the evidence. width: share of the longest bar, 0 to 100."""

    name: str
    value: float
    width: float


@dataclass(frozen=True)
class ScanCase:
    """One scan as a case page shows it; what could not be made says why."""

    line: Mapping[str, Any]
    geometry: ScanGeometry
    evidence: VolumeEvidence | None
    why_no_evidence: str
    fetched: FetchedScan | None
    why_no_pictures: str
    pit_mm: tuple[float, float] | None
    images: ScanImages | None = None

    @property
    def bars(self) -> list[Bar]:
        """Regions that hold a token, in the order of their names' list."""
        return region_bars(self.evidence.regions, self.evidence.target) if self.evidence else []

    @property
    def band_bars(self) -> list[Bar]:
        """Thirds of the image, from above."""
        return region_bars(self.evidence.bands, self.evidence.target) if self.evidence else []


@dataclass(frozen=True)
class ScanReader:
    """Where the scans of a run's participants are explained and seen: store, bucket (or None), model and controls."""

    reader: StoreReader
    pooled: Float32[np.ndarray, "rows L P C"]
    model: FittedModel
    controls: Controls
    source: Source | None
    classes: int
    seed: int

    def read(self, line: pd.Series, position: int, target: int) -> ScanCase:
        """Explain and fetch one volume. line: of the snapshot's index; position: of its vectors in pooled."""
        told = {str(name): value for name, value in line.items()}
        geometry = scan_geometry(told)
        fetched, why_no_pictures = self._fetch(line)
        pit = find_foveal_pit(fetched.volume.voxels, geometry) if fetched else None
        evidence, why_not = self._explain(line, position, target, geometry, pit)
        return ScanCase(told, geometry, evidence, why_not, fetched, why_no_pictures, pit)

    def _fetch(self, line: pd.Series) -> tuple[FetchedScan | None, str]:
        if self.source is None:
            return None, "no --bucket was given, and a store keeps no pixels"
        try:
            return fetch_scan(self.source, ref_of(line)), ""
        except OctProbeError as error:
            return None, str(error)

    def _explain(
        self, line: pd.Series, position: int, target: int, geometry: ScanGeometry, pit: tuple[float, float] | None
    ) -> tuple[VolumeEvidence | None, str]:
        if self.reader.space.token_grid is None:
            return None, "the store keeps no tokens; extract with --tokens full (or a coarser grid) to see where"
        layer = self.model.features.layer
        try:
            tokens = self.reader.tokens(int(line["row"]), layer)
            found = explain_volume(
                self.model,
                tokens,
                self._stored(position),
                str(line["protocol"]),
                classes=self.classes,
                target=target,
                en_face=lambda grid: en_face_regions(geometry, grid, pit),
                bands=axial_bands,
                controls=self.controls,
                seed=self.seed,
            )
        except OctProbeError as error:
            return None, str(error)
        return found, ""

    def _stored(self, position: int) -> np.ndarray | None:
        features, space = self.model.features, self.reader.space
        if features.token_grid is not None:
            return None
        layer = space.layers.index(features.layer)
        pools = [space.pools.index(pool) for pool in features.pools]
        vectors: np.ndarray = self.pooled[position, layer][pools]
        return vectors.astype(np.float64).ravel()


def with_images(scan: ScanCase, largest: float) -> ScanCase:
    """Draw the pictures, all scans of a case on one scale of evidence."""
    if scan.fetched is None:
        return scan
    volume = scan.fetched.volume
    evidence = scan.evidence.map if scan.evidence else np.zeros((1, 1, 1))
    images = draw_scan(volume.voxels, volume.frame_numbers, volume.frame_count, evidence, largest)
    return replace(scan, images=images)


def region_bars(shares: RegionShares, target: int) -> list[Bar]:
    """Give one bar a region that holds a token."""
    values = shares.share[:, target]
    longest = float(np.abs(values).max()) or 1.0
    return [
        Bar(name, float(value), 100 * abs(float(value)) / longest)
        for name, value in zip(shares.regions.names, values, strict=True)
        if name not in shares.regions.empty
    ]
