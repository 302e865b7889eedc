"""The verb ``classify predict``: a saved run says what it thinks of a store's volumes, and when it should not be asked.

No label and no participants table is needed, nor the store that the run was made from. Reads from top to bottom.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.table import Cohort
from classify.cohort.tasks import task_of_record
from classify.errors import CohortError, RunFolderError
from classify.judging.calibrate import load_calibrator
from classify.model import load_model
from classify.prediction_table import describe_beside, lay_out, mark_abstentions
from classify.predictions import LEVELS
from classify.reference.flags import describe_volumes
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.reference.training import TrainingReference
from classify.run import MODEL, Run, load_run
from classify.source import FeatureSource, check_comparable, source_on
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot

ABSTAIN_BELOW = 0.5
"""Of the calibrated probability of the likeliest class: below, the answer is more likely wrong than right."""

NEAREST = 3
SUFFIXES = (".parquet", ".csv")
PREDICTED = "predicted"


@dataclass(frozen=True)
class PredictOptions:
    """What the command line asked for.

    abstain_below: 0 never abstains for lack of confidence. ood_percentile: 100 never abstains for novelty.
    nearest: how many training participants to name beside each volume.
    """

    run: Path
    out: Path = Path("predictions.parquet")
    abstain_below: float = ABSTAIN_BELOW
    ood_percentile: float = THRESHOLD_PERCENTILE
    nearest: int = NEAREST
    participants_only: bool = False


@dataclass(frozen=True)
class Predicted:
    """One line a volume, eye and participant, and what to say of them together."""

    table: pd.DataFrame
    summary: dict[str, Any]


def predict(options: PredictOptions, *, read: Callable[[], Snapshot]) -> Predicted:
    """Predict every volume of a store with a finished run, and write the lines; nobody is dropped.

    read: opens the store, after the cheap checks.
    Raises: UsageError, RunFolderError (also for a store of another embedding space), CohortError, StoreError.
    """
    check_output(options.out)
    run = load_run(options.run)
    reference, calibrator = TrainingReference.load(run.folder / MODEL), load_calibrator(run.folder / MODEL)
    stored = read()
    table = predict_volumes_of(run, stored, options)
    write_table(only_participants(table) if options.participants_only else table, options.out)
    summary = {
        "run": run.record["id"],
        "model": run.record["model"],
        "task": run.record["task"],
        "classes": list(run.record["classes"]),
        "space": stored.space_id,
        "encoder_source": run.record.get("encoder_source"),
        "calibration": calibrator.method if calibrator else None,
        "snapshot": stored.note,
        "phantom": run.record["phantom"],
        "abstain_below": options.abstain_below,
        "out_of_distribution": describe_threshold(reference, options.ood_percentile),
        **count_lines(table),
        "path": str(options.out),
    }
    return Predicted(table, summary)


def predict_volumes_of(run: Run, stored: Snapshot, options: PredictOptions) -> pd.DataFrame:
    """Give one line a volume, eye and participant of a snapshot, as ``classify predict`` writes them.

    Raises: RunFolderError (another embedding space, a damaged run), CohortError where no volume may be predicted.
    """
    model, calibrator = load_model(run), load_calibrator(run.folder / MODEL)
    reference = TrainingReference.load(run.folder / MODEL)
    classes = tuple(run.record["classes"])
    check_comparable(run.record, stored)
    opened = bool(run.record.get("evaluations"))
    lines = describe_volumes(stored.index, stored.pooled, run.cohort, reference, test_is_open=opened)
    source = open_usable(lines, stored, run.record)
    levels = model.predict(source.table(model.features), classes=len(classes), split=PREDICTED)
    if calibrator:
        levels = {level: calibrator.apply(part) for level, part in levels.items()}
    beside = describe_beside(reference, source.table(reference.choice), classes, options.nearest)
    told = lines.merge(beside, on="volume", how="left")
    tables = [lay_out(level, levels[level], told, classes) for level in LEVELS]
    table = pd.concat(tables, ignore_index=True)
    return mark_abstentions(table, abstain_below=options.abstain_below, percentile=options.ood_percentile)


def check_output(out: Path) -> None:
    """Refuse a name that says no format, before anything is read."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")


def open_usable(lines: pd.DataFrame, stored: Snapshot, record: Mapping[str, Any]) -> FeatureSource:
    """Give the vectors of the volumes that may be predicted. Raises: CohortError where there is none."""
    usable = lines[lines["withheld"] == ""].reset_index(drop=True)
    if usable.empty:
        reasons = Counter(said.partition(":")[0] for said in lines["withheld"])
        counted = ", ".join(f"{count} {name}" for name, count in reasons.items()) or "no volumes"
        raise CohortError(f"the store: no volume can be predicted ({counted}); give a store with other volumes")
    table = usable[["volume", "participant", "eye", "device", "protocol"]].assign(
        site="", age=np.nan, label=np.int64(-1), split=PREDICTED
    )
    cohort = Cohort(table, usable["position"].to_numpy(np.int64), task_of_record(record), bool(record["phantom"]))
    return source_on(cohort, stored)


def describe_threshold(reference: TrainingReference, percentile: float) -> dict[str, Any]:
    """Say what "out of distribution" means here."""
    return {
        "score": "Mahalanobis distance to the nearest class of train, in percent of out-of-fold training distances",
        "percentile": percentile,
        "distance": reference.novelty.threshold(percentile),
        "training_volumes": len(reference.novelty.known_distance),
        "layer": reference.choice.layer,
        "pools": list(reference.choice.pools),
    }


def only_participants(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the lines of participants, and the columns that say something of them."""
    return table[table["level"] == "participant"].dropna(axis=1, how="all").reset_index(drop=True)


def count_lines(table: pd.DataFrame) -> dict[str, Any]:
    """Count lines and abstentions by level; of volumes those that were not predicted, flags, and whom the run knows."""
    volumes = table[table["level"] == "volume"]
    withheld = volumes.loc[volumes["predicted"].isna(), "reason"]
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


def write_table(table: pd.DataFrame, out: Path) -> None:
    """Write the lines aside and put them in place whole. Raises: RunFolderError where that cannot be."""
    aside = out.with_name(f".{out.name}.tmp")
    try:
        if out.suffix == ".csv":
            table.to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)
        aside.replace(out)
    except OSError as error:
        raise RunFolderError(f"--out {out}: expected a file that can be written, got: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
