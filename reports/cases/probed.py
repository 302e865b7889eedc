"""A probe explains a participant: its head on stored vectors, and on stored tokens to say where."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from classify.fitting.model import FittedModel, load_model
from classify.fitting.source import source_of_run
from classify.predict import predict_volumes_of
from classify.run_options import AnswerOptions
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.reader import StoreReader
from embeddings_store.schema import Eye
from embeddings_store.snapshot import Snapshot
from extract.bucket.source import Source
from reports.anatomy.foveal_pit import find_foveal_pit
from reports.anatomy.regions import axial_bands, en_face_regions
from reports.anatomy.scan import ScanGeometry, scan_geometry
from reports.anatomy.seen import WHOLE, Seen
from reports.attribution.controls import make_controls
from reports.attribution.volume import Controls, RegionsOf, VolumeEvidence, explain_volume
from reports.cases.answer import likeliest, of_unit
from reports.cases.covered import frames_to_show, see_tokens
from reports.cases.explained import Explained
from reports.cases.scans import NO_BUCKET, ScanCase
from reports.cases.sources import FetchedScan, Frames, fetch_scan, ref_of
from reports.runs import FinishedRun


@dataclass(frozen=True)
class ProbeExplainer:
    """A run of classify, and the store that its scans are in."""

    run: FinishedRun
    snapshot: Snapshot
    scans: "ScanReader"

    def volumes_of(self, participant: str) -> pd.DataFrame:
        """Return what the store holds of a participant."""
        lines = self.snapshot.index
        return lines[lines["participant"] == participant]

    def explain(self, participant: str, unit: str) -> Explained:
        """Predict a participant's stored volumes, and explain each of the unit's."""
        table = predict_volumes_of(self.run.run, self._only(participant), AnswerOptions(show_unknown=True))
        probability, target = likeliest(table, unit, self.run.classes)
        lines = self.snapshot.index
        places = np.flatnonzero(of_unit(lines, self.run.level, unit))
        scans = [self.scans.read(lines.iloc[place], int(place), target) for place in places]
        return Explained(table, probability, target, scans)

    def _only(self, participant: str) -> Snapshot:
        here = (self.snapshot.index["participant"] == participant).to_numpy()
        if not here.any():
            raise UsageError(f"participant {participant}: the store holds no volume of this participant")
        return self.snapshot.where(here)


def open_probe(run: FinishedRun, reader: StoreReader, snapshot: Snapshot, source: Source | None) -> ProbeExplainer:
    """Load a probe, and fit its controls. Raises: RunError, StoreError for what cannot be read."""
    model, classes, seed = load_model(run.run), len(run.classes), int(run.record.made.seeds["head"])
    train = source_of_run(run.run, snapshot).table(model.features).only("train")
    controls = make_controls(model, train, classes=classes, seed=seed) if classes else None
    return ProbeExplainer(run, snapshot, ScanReader(reader, snapshot, model, controls, source, classes, seed))


@dataclass(frozen=True)
class ScanReader:
    """Where the scans of a run's participants are explained and seen: store, bucket (or None), model and controls."""

    reader: StoreReader
    snapshot: Snapshot
    model: FittedModel
    controls: Controls | None
    source: Source | None
    classes: int
    seed: int

    def read(self, line: pd.Series, position: int, target: int) -> ScanCase:
        """Explain and fetch one volume. line: of the snapshot's index; position: that of the line."""
        told = {str(name): value for name, value in line.items()}
        geometry = scan_geometry(told)
        seen, why_not = self._see(geometry)
        fetched, why_no_pictures = self._fetch(line, None if seen is None else frames_to_show(seen))
        pit = find_foveal_pit(fetched.spread, geometry) if fetched else None
        evidence = None
        if seen is not None and self.controls is not None:
            en_face = partial(en_face_regions, geometry, centre_mm=pit, seen=seen)
            evidence, why_not = self._explain(
                line, position, target, self.controls, en_face, partial(axial_bands, seen=seen)
            )
        thumbnail = None if fetched else self._thumbnail(position)
        return ScanCase(told, geometry, evidence, why_not, fetched, why_no_pictures, pit, thumbnail, seen=seen or WHOLE)

    def _see(self, geometry: ScanGeometry) -> tuple[Seen | None, str]:
        """Say what the tokens lie on, or why nothing is drawn."""
        space = self.reader.space
        if self.controls is None:
            return None, "a map shows the evidence for a class, and the target of this run is a number"
        if space.token_grid is None:
            return None, "the store keeps no tokens; extract with --tokens full (or a coarser grid) to see where"
        try:
            return see_tokens(space, self.model.features.token_grid or space.token_grid, geometry), ""
        except UsageError as error:
            return None, str(error)

    def _fetch(self, line: pd.Series, shown: Frames | None) -> tuple[FetchedScan | None, str]:
        if self.source is None:
            return None, NO_BUCKET
        try:
            return fetch_scan(self.source, ref_of(line), shown=shown), ""
        except OctProbeError as error:
            return None, str(error)

    def _thumbnail(self, position: int) -> UInt8[np.ndarray, "8 32 32"] | None:
        known = self.snapshot.thumbnails
        return None if known is None or not known.known[position] else known.images[position]

    def _explain(
        self, line: pd.Series, position: int, target: int, controls: Controls, en_face: RegionsOf, bands: RegionsOf
    ) -> tuple[VolumeEvidence | None, str]:
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
                en_face=en_face,
                bands=bands,
                controls=controls,
                seed=self.seed,
                left=line["eye"] == Eye.LEFT,
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
        vectors: np.ndarray = self.snapshot.pooled[position, layer][pools]
        return vectors.astype(np.float64).ravel()
