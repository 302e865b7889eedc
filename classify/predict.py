"""The verb ``classify predict``: a saved run says what it thinks of a store's volumes, and when it should not be asked.

No label and no participants table is needed, nor the store that the run was made from. Reads from top to bottom.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.questions import Task
from classify.cohort.table import Cohort
from classify.cohort.tasks import task_of_record
from classify.errors import CohortError, RunFolderError
from classify.evaluating.prediction_table import describe_beside, lay_out, mark_abstentions
from classify.features.several_stores import open_stores_of
from classify.features.stores import ReadStore, reader_at
from classify.features.table import FeatureTable
from classify.fitting.model import load_model
from classify.fitting.source import FeatureSource, check_comparable, source_on
from classify.judging.calibrate import Calibrator, describe_method
from classify.judging.kept_calibrator import read_calibrator
from classify.judging.number_calibration import HALF_WIDTH, SHARE
from classify.judging.prevalence import read_shares
from classify.reference.flags import UNKNOWN, describe_volumes
from classify.reference.training import TrainingReference
from classify.run.folder import Run, find_run, load_run
from classify.run.predictions import Predictions, levels_of, pick_predictions
from classify.run.record import RunRecord
from classify.run_options import AnswerOptions, PredictOptions
from embeddings_store.errors import UsageError
from embeddings_store.plain_text import for_spreadsheets
from embeddings_store.publish import place_aside, publish
from embeddings_store.snapshot import Snapshot

ABSTAIN_BELOW = 0.5
"""Of the calibrated probability of the likeliest class: below, the answer is more likely wrong than right."""

NEAREST = 3
SUFFIXES = (".parquet", ".csv")
PREDICTED = "predicted"


@dataclass(frozen=True)
class Predicted:
    """One line a volume, eye and participant, and what to say of them together."""

    table: pd.DataFrame
    summary: dict[str, Any]


def predict(options: PredictOptions, *, read: ReadStore | None = None) -> Predicted:
    """Predict every volume of a store with a finished run, and write the lines; nobody is dropped.

    read: opens a store by its address, after the cheap checks; None: as the options say.
    Raises: UsageError, RunFolderError (also for a store of another embedding space), CohortError, StoreError.
    """
    check_output(options.out)
    run = load_run(find_run(options.run, options.runs))
    refuse_of_number(run, options)
    reference, calibrator = TrainingReference.load(run.model_folder()), open_calibrator(run, options.prevalence)
    level = task_of_record(run.record).level
    stored = open_stores_of(run.record, options.store, read or reader_at(options.endpoint_url), level)
    with alone_at(options.out) as aside:
        table = predict_volumes_of(run, stored, options)
        shown = only_judged(table, task_of_record(run.record)) if options.participants_only else table
        write_table(shown, aside, options.out)
    summary = {
        "run": run.record.id,
        "model": run.record.fitted.model,
        "task": run.record.asked.task,
        "classes": list(run.record.asked.classes),
        "space": stored.space_id,
        "encoder_source": run.record.asked.encoder_source,
        "calibration": calibrator.method if calibrator else None,
        "probabilities": describe_method(run.record.fitted.calibration),
        **({} if run.record.asked.classes else describe_number(reference, calibrator)),
        "prevalence": stated(calibrator, run.record.asked.classes),
        "confident_on_val": confident_on_val(run, options.abstain_below) if run.record.asked.classes else None,
        "snapshot": stored.note,
        "phantom": run.record.asked.phantom,
        "abstain_below": options.abstain_below if run.record.asked.classes else None,
        "out_of_distribution": describe_threshold(reference, options.ood_percentile),
        **count_lines(table),
        "path": str(options.out),
    }
    return Predicted(table, summary)


def predict_volumes_of(run: Run, stored: Snapshot, options: AnswerOptions) -> pd.DataFrame:
    """Give one line a volume, eye and participant of a snapshot, as ``classify predict`` writes them.

    Raises: RunFolderError (another embedding space, a damaged run), CohortError where no volume may be predicted.
    """
    model, calibrator = load_model(run), open_calibrator(run, options.prevalence)
    reference = TrainingReference.load(run.model_folder())
    classes, task = tuple(run.record.asked.classes), task_of_record(run.record)
    check_comparable(run.record, stored)
    lines = describe_volumes(
        stored, run, reference, answer_unknown=options.answer_unknown, show_unknown=options.show_unknown
    )
    source = open_usable(lines, stored, run.record)
    if source is None:
        nearby = pd.DataFrame({"volume": [], "ood_distance": [], "ood_percentile": []}).astype({"volume": object})
        levels = {level: nobody(run.record.fitted.model, level, len(classes)) for level in levels_of(task)}
    else:
        nearby = describe_beside(reference, source.table(reference.choice), classes, options.nearest)
        levels = model.predict(source.table(model.features), classes=len(classes), split=PREDICTED)
    if calibrator and source:
        levels = {level: calibrator.apply(part) for level, part in levels.items()}
    told = lines.merge(nearby, on="volume", how="left")
    reach = {} if classes or not calibrator else {n: p.get(HALF_WIDTH) for n, p in calibrator.parameters.items()}
    parts = [lay_out(level, part, told, classes, reach.get(level) or np.nan) for level, part in levels.items()]
    table, known = pd.concat(parts, ignore_index=True), reference.known.label
    return mark_abstentions(
        table,
        abstain_below=options.abstain_below,
        percentile=options.ood_percentile,
        never=f"no calibration possible: everybody has the {'prevalence' if classes else 'mean of train'}"
        if calibrator and calibrator.why_constant
        else "",
        known=None if classes else (float(known.min()), float(known.max())),
    )


def predict_table(run: Run, table: object) -> pd.DataFrame:
    """Predict raw vectors in any of the forms that Run.predict takes."""
    if isinstance(table, FeatureTable):
        return predict_features(run, table)
    if not isinstance(table, Snapshot):
        raise UsageError(
            f"predict: expected a snapshot, which says what its numbers are, got {type(table).__name__}; "
            f"octprobe.read_snapshot(store) gives one, and its where(mask) keeps some rows"
        )
    return predict_volumes_of(run, table, AnswerOptions())


def predict_features(run: Run, raw: FeatureTable) -> pd.DataFrame:
    """Give level, unit, participant and the calibrated probabilities of raw features of the run's choice."""
    model, calibrator, classes = load_model(run), open_calibrator(run, None), run.record.asked.classes
    width, asked = model.standardiser.tokens * model.standardiser.mean.shape[1], model.features
    own = {name.split("/")[0] for name in raw.names} == {asked.layer} and (
        asked.token_grid is not None or tuple(dict.fromkeys(name.split("/")[1] for name in raw.names)) == asked.pools
    )
    if raw.space != run.record.asked.space or raw.x.shape[1] != width or not own:
        raise UsageError(
            f"predict: expected {width} features of layer {asked.layer}, pools {', '.join(asked.pools) or 'none'}, in "
            f"the space {run.record.asked.space}, got {raw.x.shape[1]} from {raw.names[0]} on, in {raw.space}"
        )
    levels = model.predict(raw, classes=len(classes), split=PREDICTED)
    if calibrator:
        levels = {level: calibrator.apply(part) for level, part in levels.items()}
    columns = [f"probability_{name}" for name in classes] or ["value"]
    parts = [
        pd.DataFrame(part.probability, columns=columns).assign(
            level=level, unit=part.unit, participant=part.participant
        )
        for level, part in levels.items()
    ]
    return pd.concat(parts, ignore_index=True)[["level", "unit", "participant", *columns]]


def open_calibrator(run: Run, prevalence: str | None) -> Calibrator | None:
    """Read the run's calibration, stated at another prevalence where one is asked for. Raises: UsageError."""
    found = read_calibrator(run.model_folder(), len(run.record.asked.classes))
    if prevalence is None:
        return found
    if not run.record.asked.classes:
        raise UsageError("--prevalence: the run predicts a number, which has no class shares; leave it out")
    if found is None:
        raise UsageError("--prevalence: the run was not calibrated, so its probabilities have none; make it again")
    return found.at(read_shares(prevalence, run.record.asked.classes))


def stated(calibrator: Calibrator | None, classes: Sequence[str]) -> dict[str, float] | None:
    """Return the class shares that probabilities are stated at; None for a run that has none."""
    if calibrator is None or calibrator.prevalence is None:
        return None
    return dict(zip(classes, calibrator.prevalence, strict=True))


def confident_on_val(run: Run, threshold: float) -> float | None:
    """Return the share of the run's judged units whose likeliest class reaches a probability; None of nobody."""
    record = run.record
    level, split = task_of_record(record).judged, record.judged_split
    people = pick_predictions(run.predictions, model=record.fitted.model, level=level, split=split)
    return float((people.probability.max(axis=1) >= threshold).mean()) if len(people.label) else None


def describe_number(reference: TrainingReference, calibrator: Calibrator | None) -> dict[str, Any]:
    """Say how far the interval of a number reaches at each level, and between what numbers train lay."""
    found, known = calibrator.parameters if calibrator else {}, reference.known.label
    return {
        "interval": {"share": SHARE, HALF_WIDTH: {level: part.get(HALF_WIDTH) for level, part in found.items()}},
        "known_numbers": [float(known.min()), float(known.max())],
    }


def refuse_of_number(run: Run, options: PredictOptions) -> None:
    """Raises: UsageError for an option that a run which predicts a number cannot follow."""
    if not run.record.asked.classes and options.abstain_below != ABSTAIN_BELOW:
        raise UsageError(
            f"--abstain-below {options.abstain_below:g}: the run predicts a number, which has no probability; it "
            f"abstains from answers outside the range of train, and for scans unlike those of train (--ood-percentile)"
        )


def check_output(out: Path) -> None:
    """Refuse a name that says no format, before anything is read."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")


def nobody(model: str, level: str, classes: int) -> Predictions:
    """Return the predictions of no unit."""
    names, numbers = np.array([], dtype=str), np.zeros((0, max(classes, 1)))
    label = np.zeros(0, np.int64 if classes else np.float64)
    return Predictions(model, level, PREDICTED, names, names, label, numbers, numbers)


def open_usable(lines: pd.DataFrame, stored: Snapshot, record: RunRecord) -> FeatureSource | None:
    """Return the vectors of the volumes that may be predicted; None where devices or protocols are all unknown.

    Raises: CohortError where there is none for other reasons.
    """
    usable = lines[lines["withheld"] == ""].reset_index(drop=True)
    if usable.empty and lines["withheld"].str.startswith(UNKNOWN).any():
        return None
    if usable.empty:
        reasons = Counter(said.partition(":")[0] for said in lines["withheld"])
        counted = ", ".join(f"{count} {name}" for name, count in reasons.items()) or "no volumes"
        raise CohortError(f"the store: no volume can be predicted ({counted}); give a store with other volumes")
    table = usable[["volume", "participant", "eye", "device", "protocol"]].assign(
        site="", age=np.nan, label=np.int64(-1) if record.asked.classes else 0.0, split=PREDICTED
    )
    cohort = Cohort(table, usable["position"].to_numpy(np.int64), task_of_record(record), bool(record.asked.phantom))
    return source_on(cohort, stored)


def describe_threshold(reference: TrainingReference, percentile: float) -> dict[str, Any]:
    """Say what "out of distribution" means here."""
    nearest = "the nearest class of" if len(reference.novelty.gaussians.class_means) > 1 else "the mean of"
    return {
        "score": f"Mahalanobis distance to {nearest} train, in percent of out-of-fold training distances",
        "percentile": percentile,
        "distance": reference.novelty.threshold(percentile),
        "training_volumes": len(reference.novelty.known_distance),
        "layer": reference.choice.layer,
        "pools": list(reference.choice.pools),
    }


def only_judged(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Keep the lines of the judged level (participants, eyes or scans), and the columns that say something of them."""
    return table[table["level"] == task.judged].dropna(axis=1, how="all").reset_index(drop=True)


def count_lines(table: pd.DataFrame) -> dict[str, Any]:
    """Count lines and abstentions by level; of volumes those that were not predicted, flags, and whom the run knows."""
    volumes = table[table["level"] == "volume"]
    withheld = volumes.loc[volumes["value" if "value" in volumes else "predicted"].isna(), "reason"]
    return {
        "levels": {
            str(level): {
                "lines": len(part),
                "abstained": int(part["abstain"].sum()),
                "out_of_distribution": int(part["out_of_distribution"].sum()),
            }
            for level, part in table.groupby("level", sort=False)
        },
        "withheld": dict(Counter(said.partition(":")[0] for said in withheld)),
        "flags": dict(Counter(flag for said in volumes["flags"] if said for flag in said.split("; "))),
        "known_to_the_run": dict(Counter(name or "new" for name in volumes["split_of_run"])),
    }


@contextmanager
def alone_at(out: Path) -> Iterator[Path]:
    """Give a place aside for the lines; who else would write to ``out`` meanwhile is refused.

    Raises: UsageError where another process is writing there, RunFolderError where nothing can be written.
    """
    with ExitStack() as held:
        try:
            aside = held.enter_context(place_aside(out, alone=True))
        except OSError as error:
            raise unwritable(out, error) from error
        yield aside


def write_table(table: pd.DataFrame, aside: Path, out: Path) -> None:
    """Write the lines aside and put them in place whole. Raises: RunFolderError where that cannot be."""
    try:
        if out.suffix == ".csv":
            for_spreadsheets(table).to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)
        publish(aside, out)
    except OSError as error:
        raise unwritable(out, error) from error


def unwritable(out: Path, error: OSError) -> RunFolderError:
    """Return what to say of a place that cannot be written."""
    return RunFolderError(f"--out {out}: expected a file that can be written, got: {error.strerror}")
