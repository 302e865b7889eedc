"""The verb ``reports case``: one page a participant that a clinician can read and check. Reads from top to bottom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.units import VOLUME, name_units
from classify.features.tokens import with_tokens
from classify.judging.calibrate import cross_fit, describe_method
from classify.judging.kept_calibrator import read_calibrator
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.run.predictions import Predictions, pick_predictions
from embeddings_store.errors import UsageError
from embeddings_store.extras import require_installed
from embeddings_store.file_names import file_name
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.snapshot import Snapshot, read_features_source
from extract.bucket.open import open_source
from extract.bucket.source import Source
from reports.cases.answer import of_unit, unit_line
from reports.cases.explained import UNIT_PARTS, Explainer
from reports.cases.map_files import export_maps
from reports.cases.people import TellingCase, TrackRecord, telling_cases, track_record
from reports.cases.probed import open_probe
from reports.cases.recorded import RecordedExplainer
from reports.cases.scans import ScanCase, with_images
from reports.cases.view import SIDES, spread_over_scans, view_scan, volume_lines
from reports.encoders import encoder_part
from reports.ledger import say_resplits
from reports.model_card import write_model_card
from reports.options import CaseOptions
from reports.page import in_words, publish, render
from reports.runs import (
    FinishedRun,
    LeftOut,
    best_by_validation,
    name_left_out,
    read_runs,
    say_left_out,
)

NEW = "this participant is new to the run"
STRANGER = "none of these scans is one that the run knows under this number, so they may be another person's"


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
class OpenedStore:
    """What a probe is explained from. snapshot: of the run's space."""

    reader: StoreReader
    snapshot: Snapshot


@dataclass(frozen=True)
class Opened:
    """What the pages are made from. store: None without --store; source: None without --bucket."""

    store: OpenedStore | None
    source: Source | None


def open_inputs(options: CaseOptions) -> Opened:
    """Open the store and the bucket that the options name. Raises: StoreError, BucketError."""
    store, endpoint_url = options.store, options.endpoint_url
    opened = None
    if store:
        snapshot = read_features_source(store, endpoint_url=endpoint_url)
        reader = open_reader(store, endpoint_url=endpoint_url)
        opened = OpenedStore(reader, with_tokens(snapshot, store, endpoint_url=endpoint_url))
    if not options.bucket:
        return Opened(opened, None)
    return Opened(opened, open_source(options.bucket, options.prefix, endpoint_url, layout=options))


def write_cases(
    options: CaseOptions,
    opened: Opened | None = None,
    *,
    now: datetime | None = None,
    tell: Callable[[LeftOut], None] = name_left_out,
) -> list[Case]:
    """Explain and publish OUT/case-<participant>.html for each participant. opened None: as the options say.

    tell: hears of each run that cannot be read; the pages name them, too.
    Raises: UsageError for unknown or locked participants; RunError, StoreError for what cannot be read.
    """
    if options.export:
        require_installed("highdicom", "--export")  # its extra brings what NIfTI needs, too
    opened, now = opened or open_inputs(options), now or datetime.now(UTC)
    left_out: list[LeftOut] = []
    run = choose_run(read_runs(options.runs, tell=left_out.append), options.run, left_out)
    for one in left_out:
        tell(one)
    require_unlocked(run, options.participants)
    explainer = open_explainer(run, opened, options.device)
    chosen = choose_people(run, options.participants, explainer)
    judged = judged_people(run)
    write_model_card(run, options.out, now=now)
    frame = _frame(run, now) | {"left_out": say_left_out(left_out)}
    return [_write_case(options, run, one, explainer, judged, frame) for one in chosen]


def choose_run(runs: Sequence[FinishedRun], wanted: str | None, left_out: Sequence[LeftOut] = ()) -> FinishedRun:
    """Take the named run, or the best probe by validation; without a probe the best fine-tuned model.

    Raises: UsageError where there is none.
    """
    if wanted is not None:
        found = next((run for run in runs if run.id == wanted), None)
        if unread := next((one for one in left_out if found is None and one.folder == wanted), None):
            raise UsageError(f"--run {wanted}: it cannot be read: {unread.reason}")
        if found is None:
            names = ", ".join(run.id for run in runs)
            raise UsageError(f"--run {wanted}: expected one of the runs below --runs ({names})")
        return found
    known = [run for run in runs if run.model != "dummy"]
    best = best_by_validation(run for run in known if not run.stages) or best_by_validation(known)
    if best is None:
        raise UsageError(
            "--runs: expected a run of classify probe or finetune with a balanced accuracy on validation, found none; "
            "make one, or choose one with --run"
        )
    return best


def open_explainer(run: FinishedRun, opened: Opened, device: str | None) -> Explainer:
    """Load what explains this run. Raises: UsageError where an option is missing, or would do nothing; RunError."""
    if run.stages:
        if opened.source is None:
            return _open_recorded(run, opened.store, device)
        from reports.cases.finetuned import open_finetuned  # with torch, which no linear probe needs

        return open_finetuned(run, opened.source, device or "cpu")
    if device is not None:
        raise UsageError(f"--device belongs to a fine-tuned model; run {run.id} is a probe, which needs no encoder")
    if opened.store is None:
        raise UsageError(f"--store is missing: run {run.id} is a probe, which reads stored vectors and tokens")
    return open_probe(run, opened.store.reader, opened.store.snapshot, opened.source)


def _open_recorded(run: FinishedRun, store: OpenedStore | None, device: str | None) -> Explainer:
    """Show what a fine-tuned run recorded, where no volume can be read again. Raises: UsageError."""
    if store is None:
        raise UsageError(
            f"--bucket is missing: run {run.id} is a fine-tuned model, which reads the volumes again; with --store "
            "alone a page shows what the run recorded, and thumbnails"
        )
    if device is not None:
        raise UsageError(
            f"--device: without --bucket the run {run.id} computes nothing; leave it out, or give --bucket"
        )
    return RecordedExplainer(run, store.snapshot)


def require_unlocked(run: FinishedRun, wanted: Sequence[str]) -> None:
    """Raise UsageError for a participant of the locked test split."""
    split = _splits(run)
    for name in wanted:
        if split.get(name) == "test" and not run.record.looks_at_test:
            raise UsageError(
                f"--participant {name}: belongs to the locked test split; `classify evaluate --split test` opens it "
                "and writes down that it was opened"
            )


def choose_people(run: FinishedRun, wanted: Sequence[str], explainer: Explainer) -> list[TellingCase]:
    """Give the named participants, known to the run or new, or a few instructive ones of validation.

    Raises: UsageError for one of whom there is no volume at all.
    """
    if not wanted:
        people = run.predictions(run.level, run.record.judged_split)
        return telling_cases(people) if people is not None else []
    split, cohort = _splits(run), run.run.cohort
    chosen = []
    for name in wanted:
        of = f"of the {split[name]} split" if name in split else "new to the run"
        own = cohort[cohort["participant"].astype(str) == name] if name in split else explainer.volumes_of(name)
        if own.empty:
            raise UsageError(
                f"--participant {name}: expected somebody of the run {run.id}, or with volumes where it reads them "
                "(--store of a probe, --bucket of a fine-tuned model), found none"
            )
        chosen += [TellingCase(unit, name, f"asked for; {of}") for unit in _units_of(run, own)]
    return chosen


def _splits(run: FinishedRun) -> dict[str, str]:
    return dict(zip(run.run.cohort["participant"].astype(str), run.run.cohort["split"], strict=True))


def _units_of(run: FinishedRun, own: pd.DataFrame) -> list[str]:
    """Name the judged units of a participant's volumes, in order."""
    columns = (own[name].to_numpy(str) for name in UNIT_PARTS)
    return sorted(set(name_units(run.level, *columns).tolist()))


def judged_people(run: FinishedRun) -> Predictions | None:
    """Return the validation participants with probabilities as somebody new would be shown.

    A run made before calibration was fitted on train is calibrated here, each participant by a fit on the others.
    """
    if run.task.is_number:
        return None
    people = run.predictions(run.level, run.record.judged_split)
    calibrator = read_calibrator(run.run.model_folder(), len(run.classes))
    if people is None or calibrator is None or calibrator.prevalence is not None:
        return people
    if np.ptp(people.label) == 0:  # of one class: every fit would end at certainty
        return None
    return cross_fit(calibrator.method, people, int(run.record.made.seeds["folds"]))


def _write_case(
    options: CaseOptions,
    run: FinishedRun,
    who: TellingCase,
    explainer: Explainer,
    judged: Predictions | None,
    frame: dict[str, Any],
) -> Case:
    found = explainer.explain(who.participant, who.unit)
    person = unit_line(found.table, who.unit)
    known = who if person["split_of_run"] else None  # of a stranger the run recorded nothing
    page = options.out / f"case-{file_name(who.unit)}.html"
    volumes = found.table[found.table["level"] == VOLUME]
    volumes = volumes[of_unit(volumes.assign(volume=volumes["unit"]), run.level, who.unit)]
    context = {
        **frame,
        "who": who,
        "person": person,
        "stranger": "" if known else STRANGER if who.participant in _splits(run) else NEW,
        "probability": found.probability,
        "target": found.target,
        "probabilities": _probabilities(run),
        "truth": _truth(run, known),
        "record": _track(judged, max(found.probability, default=0.0), known),
        "covariates": _covariates(run, known),
        "spread": spread_over_scans(volumes, run.classes),
        "volumes": volume_lines(volumes, in_words),
        "threshold": THRESHOLD_PERCENTILE,
        "sides": SIDES,
        "scans": [view_scan(scan) for scan in with_images(sorted(found.scans, key=_place))],
    }
    text = render("case.html.j2", context)
    publish(text, page)
    explanation = f"for {run.classes[found.target] if run.classes else run.task.target}, {run.model}"
    maps = export_maps(options.out, who.unit, found.scans, explanation) if options.export else ()
    return Case(who.participant, page, len(found.scans), len(text.encode()), tuple(maps))


def _place(scan: ScanCase) -> tuple[str, str]:
    return scan.geometry.protocol, str(scan.line["eye"])


def _frame(run: FinishedRun, now: datetime) -> dict[str, Any]:
    return {
        "run": run,
        "task": run.record.asked.task,
        "classes": run.classes,
        "question": run.task,
        "covariates_name": in_words(" and ".join(run.covariates.replace("+", ", ").rsplit(", ", 1))) or "covariates",
        "phantom": run.is_phantom,
        "resplits": say_resplits([run]),
        **encoder_part([run]),
        "date": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": version("octprobe"),
    }


def _probabilities(run: FinishedRun) -> str:
    """Say what the probabilities on the page are, and at which prevalence."""
    if run.stages:
        return "Not calibrated: a fine-tuned model’s probabilities are as it gives them."
    said = describe_method(run.record.fitted.calibration)
    shares = (run.record.fitted.calibration or {}).get("prevalence", {})
    stated = ", ".join(f"{in_words(name)} {100 * share:.0f} %" for name, share in shares.items())
    return f"{said[0].upper()}{said[1:]}" + (f"; stated at the prevalence {stated}." if stated else ".")


def _truth(run: FinishedRun, who: TellingCase | None) -> str:
    if who is None:
        return ""
    rows = run.run.cohort[of_unit(run.run.cohort, run.level, who.unit)]
    if not len(rows):
        return ""
    label = rows["label"].iloc[0]
    return str(run.classes[int(label)]) if run.classes else f"{label:g}"


def _track(judged: Predictions | None, top: float, who: TellingCase | None) -> TrackRecord | None:
    return None if judged is None else track_record(top, who.participant if who else "", judged)


def _covariates(run: FinishedRun, who: TellingCase | None) -> list[float] | None:
    """Give what the covariates alone say of this unit, where the run recorded it."""
    for split in (run.record.judged_split, "test") if who and run.classes else ():
        found = pick_predictions(run.run.predictions, model=run.covariates, level=run.level, split=split)
        place = np.flatnonzero(found.unit == (who.unit if who else ""))
        if len(place):
            return [float(p) for p in found.probability[place[0]]]
    return None
