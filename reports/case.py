"""The verb ``reports case``: one page a participant that a clinician can read and check. Reads from top to bottom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from classify.judging.calibrate import cross_fit, load_calibrator
from classify.model import load_model
from classify.predict import PredictOptions, predict_volumes_of
from classify.predictions import Predictions, pick_predictions
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.run import MODEL
from classify.source import source_of_run
from embeddings_store.errors import UsageError
from embeddings_store.reader import StoreReader
from embeddings_store.snapshot import Snapshot
from extract.bucket.source import Source
from reports.attribution.controls import make_controls
from reports.cases.map_files import export_maps
from reports.cases.people import TellingCase, TrackRecord, telling_cases, track_record
from reports.cases.scans import ScanCase, ScanReader, with_images
from reports.cases.view import SIDES, spread_over_scans, view_scan, volume_lines
from reports.model_card import write_model_card
from reports.page import in_words, publish, render
from reports.runs import PRIMARY_LEVEL, FinishedRun, best_by_validation, read_runs

AGE_SITE = "age+site"
BRIGHTEST_SHARE = 0.98  # of tokens; the few above it are painted as opaque as this


@dataclass(frozen=True, slots=True)
class CaseOptions:
    """Whose pages, by which run (None: the best probe by validation), and where they go; export: map files, too."""

    runs: Path
    out: Path
    run: str | None = None
    participants: tuple[str, ...] = ()
    export: bool = False


@dataclass(frozen=True)
class Case:
    """One published page."""

    participant: str
    page: Path
    scans: int
    size_bytes: int
    maps: tuple[Path, ...]

    def to_record(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "participant": self.participant,
            "page": str(self.page),
            "scans": self.scans,
            "size_bytes": self.size_bytes,
            "maps": [str(path) for path in self.maps],
        }


@dataclass(frozen=True)
class Opened:
    """What the pages are made from. snapshot: of the run's space; source: None without --bucket."""

    reader: StoreReader
    snapshot: Snapshot
    source: Source | None


def write_cases(options: CaseOptions, opened: Opened, *, now: datetime) -> list[Case]:
    """Explain and publish OUT/case-<participant>.html for each participant.

    Raises: UsageError for unknown or locked participants; RunError, StoreError for what cannot be read.
    """
    run = choose_run(read_runs(options.runs), options.run)
    record = run.record
    classes = tuple(run.classes)
    model = load_model(run.run)
    chosen = choose_people(run, options.participants)
    seed = int(record["seeds"]["head"])
    train = source_of_run(run.run, opened.snapshot).table(model.features).only("train")
    controls = make_controls(model, train, classes=len(classes), seed=seed)
    scans = ScanReader(opened.reader, opened.snapshot.pooled, model, controls, opened.source, len(classes), seed)
    judged = judged_people(run)
    write_model_card(run, options.out, now=now)
    return [_write_case(options, opened, run, one, scans, judged, now) for one in chosen]


def choose_run(runs: Sequence[FinishedRun], wanted: str | None) -> FinishedRun:
    """Take the named run, or the best probe by validation; a fine-tuned encoder's tokens are not in the store.

    Raises: UsageError where there is none.
    """
    probes = [run for run in runs if not run.stages]
    if wanted is not None:
        found = next((run for run in probes if run.id == wanted), None)
        if found is None:
            names = ", ".join(run.id for run in probes) or "none"
            raise UsageError(f"--run {wanted}: expected one of the probes below --runs ({names})")
        return found
    best = best_by_validation(run for run in probes if run.model != "dummy")
    if best is None:
        raise UsageError("--runs: expected a finished run of classify probe, found none; run `classify probe` first")
    return best


def choose_people(run: FinishedRun, wanted: Sequence[str]) -> list[TellingCase]:
    """Give the named participants, or a few telling ones of validation.

    Raises: UsageError for a participant of the locked test split, or one that the run does not know.
    """
    if not wanted:
        people = run.predictions(PRIMARY_LEVEL, "val")
        return telling_cases(people) if people is not None else []
    split = dict(zip(run.run.cohort["participant"].astype(str), run.run.cohort["split"], strict=True))
    locked = not run.record.get("evaluations")
    for name in wanted:
        if name not in split:
            raise UsageError(f"--participant {name}: the run {run.id} was made without this participant")
        if split[name] == "test" and locked:
            raise UsageError(
                f"--participant {name}: belongs to the locked test split; `classify evaluate --split test` opens it "
                "and writes down that it was opened"
            )
    return [TellingCase(name, f"asked for; of the {split[name]} split") for name in wanted]


def judged_people(run: FinishedRun) -> Predictions | None:
    """Give the validation participants with probabilities as they would be calibrated for somebody new."""
    people = run.predictions(PRIMARY_LEVEL, "val")
    calibrator = load_calibrator(run.folder / MODEL)
    if people is None or calibrator is None:
        return people
    return cross_fit(calibrator.method, people, int(run.record["seeds"]["folds"]))


def _write_case(
    options: CaseOptions,
    opened: Opened,
    run: FinishedRun,
    who: TellingCase,
    reader: ScanReader,
    judged: Predictions | None,
    now: datetime,
) -> Case:
    own = _only_person(opened.snapshot, who.participant)
    predicted = predict_volumes_of(run.run, own, PredictOptions(run.folder))
    person = predicted[predicted["level"] == PRIMARY_LEVEL].iloc[0]
    probability = [float(person[f"probability_{name}"]) for name in run.classes]
    target = int(np.argmax(probability))
    lines = opened.snapshot.index
    places = np.flatnonzero((lines["participant"] == who.participant).to_numpy())
    scans = [reader.read(lines.iloc[place], int(place), target) for place in places]
    largest = _largest_token(scans)
    drawn = [with_images(scan, largest) for scan in scans]
    page = options.out / f"case-{who.participant}.html"
    volumes = predicted[predicted["level"] == "volume"]
    context = {
        **_frame(run, now),
        "who": who,
        "person": person,
        "probability": probability,
        "target": target,
        "truth": _truth(run, who.participant),
        "record": _track(judged, max(probability), who.participant),
        "covariates": _covariates(run, who.participant),
        "spread": spread_over_scans(volumes, run.classes),
        "volumes": volume_lines(volumes, in_words),
        "threshold": THRESHOLD_PERCENTILE,
        "sides": SIDES,
        "scans": [view_scan(scan) for scan in drawn],
    }
    text = render("case.html.j2", context)
    publish(text, page)
    explanation = f"evidence for {run.classes[target]}, {run.model}"
    maps = export_maps(options.out, who.participant, scans, explanation) if options.export else ()
    return Case(who.participant, page, len(scans), len(text.encode()), tuple(maps))


def _frame(run: FinishedRun, now: datetime) -> dict[str, Any]:
    return {
        "run": run,
        "task": run.record["task"],
        "classes": run.classes,
        "phantom": run.is_phantom,
        "date": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": version("octprobe"),
    }


def _only_person(snapshot: Snapshot, participant: str) -> Snapshot:
    here = (snapshot.index["participant"] == participant).to_numpy()
    if not here.any():
        raise UsageError(f"participant {participant}: the store holds no volume of this participant")
    index = snapshot.index[here].reset_index(drop=True)
    return replace(snapshot, pooled=snapshot.pooled[here], index=index)


def _largest_token(scans: Sequence[ScanCase]) -> float:
    maps = [np.abs(scan.evidence.map).ravel() for scan in scans if scan.evidence]
    return float(np.quantile(np.concatenate(maps), BRIGHTEST_SHARE)) if maps else 0.0


def _truth(run: FinishedRun, participant: str) -> str:
    rows = run.run.cohort[run.run.cohort["participant"] == participant]
    return str(run.classes[int(rows["label"].iloc[0])]) if len(rows) else ""


def _track(judged: Predictions | None, top: float, participant: str) -> TrackRecord | None:
    return None if judged is None else track_record(top, participant, judged)


def _covariates(run: FinishedRun, participant: str) -> list[float] | None:
    """Give what age and site alone say of this participant, where the run recorded it."""
    for split in ("val", "test"):
        found = pick_predictions(run.run.predictions, model=AGE_SITE, level=PRIMARY_LEVEL, split=split)
        place = np.flatnonzero(found.participant == participant)
        if len(place):
            return [float(p) for p in found.probability[place[0]]]
    return None
