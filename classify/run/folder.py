"""The run folder: everything that a result carries, written aside and published by rename, run.json last.

::

    runs/<id>/
      predictions.parquet   model, level, split, unit, participant, label, probability_0.., logit_0..
      cohort.parquet        the analysed volumes: volume, participant, eye, device, protocol, site, age, label, split,
                            and size, etag, md5 and vectors (digests) of each: what it is known by; and its study group
      model/                the head, the standardiser and the calibration, without pickle
      search.journal        Optuna's journal, where something was searched; it goes on growing in studies/
      run.json              the record; a folder without it is no run
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from classify.cohort.splits import OUT_OF_FOLD, SPLITS
from classify.errors import RunFolderError
from classify.model_files import check_digests, check_finite, digest_files, readable
from classify.run.record import EXTERNAL, RECORD, RunRecord, read_record
from classify.run.typed_record import write_record
from embeddings_store.errors import UsageError
from embeddings_store.publish import place_aside, publish, published
from embeddings_store.regular_file import require_regular

PREDICTIONS = "predictions.parquet"
COHORT = "cohort.parquet"
MODEL = "model"
TWIN_MODEL = "model_of_random_twin"


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder that was read back: the record, the tables, and where the model lies.

    >>> import octprobe
    >>> from pathlib import Path
    >>> run = octprobe.load_run(next(Path("runs").glob("*-linear-*")))
    >>> run.record.fitted.model, run.record.asked.classes
    ('linear', ['healthy', 'rest'])
    """

    record: RunRecord
    predictions: pd.DataFrame
    cohort: pd.DataFrame
    folder: Path

    def __repr__(self) -> str:
        """Name the run and how much it was judged on."""
        asked, volumes = self.record.asked, len(self.cohort)
        return f"Run {self.record.id}: {self.record.fitted.model}, {asked.task}, {volumes:,} volumes"

    def model_folder(self, part: str = MODEL) -> Path:
        """Return the folder of a model whose files are as the run wrote them. Raises: RunFolderError."""
        folder = self.folder / part
        if not folder.is_dir():
            raise RunFolderError(f"run {self.record.id}: expected a folder {part}, found none; make the run again")
        check_digests(folder, self.record.made.model_sha256.get(part, {}))
        return folder

    def predict(self, table: object) -> pd.DataFrame:
        """Give one line a volume, eye and participant: the numbers that ``classify predict`` writes.

        table: raw vectors, which the run standardises itself: a snapshot (every column of the command), or a
        FeatureTable of the run's features (level, unit, participant and probabilities).
        Raises: UsageError for features that are standardised, unlabelled or others than the run's; RunFolderError,
        CohortError.
        """
        from classify.predict import predict_table  # it stands on this module

        return predict_table(self, table)


def new_run_id(now: datetime, model: str, task: str) -> str:
    """Name a run by its UTC time, model, task and six random hex digits: 20261122-150301-lgbm-four-class-0a1b2c."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{model}-{task}-{secrets.token_hex(3)}"


@contextmanager
def run_folder(runs: Path, run_id: str) -> Iterator[Path]:
    """Give a folder aside to write a run into; it is removed again unless save_run published it.

    Raises: RunFolderError where the folder of runs cannot be written.
    """
    with ExitStack() as held:
        try:
            runs.mkdir(parents=True, exist_ok=True)
            aside = held.enter_context(place_aside(runs / run_id))
            (aside / MODEL).mkdir(parents=True)
        except OSError as error:
            raise RunFolderError(
                f"--runs {runs}: expected a folder that can be written, got: {error.strerror}; choose another --runs"
            ) from error
        yield aside


def digest_models(aside: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file of each model that lies in a run's folder."""
    return {part: digest_files(aside / part) for part in (MODEL, TWIN_MODEL) if (aside / part).is_dir()}


def save_tables(aside: Path, predictions: pd.DataFrame, cohort: pd.DataFrame, marked: pd.DataFrame) -> None:
    """Write the two tables of a run. marked: what each volume of the cohort is known by, see mark_volumes."""
    predictions.to_parquet(aside / PREDICTIONS, index=False)
    remembered = cohort.merge(marked.drop(columns="participant"), on="volume", how="left", validate="1:1")
    remembered.to_parquet(aside / COHORT, index=False)


def save_run(aside: Path, record: RunRecord) -> Path:
    """Write the record, then publish the folder under its id. The model and the tables lie there already."""
    write_record(aside / RECORD, record.to_dict())
    return publish(aside, aside.parent.parent / record.id)


def update_run(run: Run, record: RunRecord, predictions: pd.DataFrame, *, split: str) -> None:
    """Put the predictions of one more split and the new record into a finished run; each file is replaced whole.

    Predictions of that split from before are replaced. run.json comes last: it never speaks of what is not there.
    Raises: RunFolderError where the folder cannot be written; the run then is as it was.
    """
    kept = run.predictions[run.predictions["split"] != split]
    try:
        with published(run.folder / PREDICTIONS) as aside:
            pd.concat([kept, predictions], ignore_index=True).to_parquet(aside, index=False)
        with published(run.folder / RECORD) as aside:
            write_record(aside, record.to_dict())
    except OSError as error:
        raise RunFolderError(
            f"run folder {run.folder.name}: expected a folder that can be written, got: {error.strerror}"
        ) from error


def find_run(run: Path, runs: Path) -> Path:
    """Return the folder of a run that was named by its folder, or by its name below ``runs``. Raises: UsageError."""
    for folder in (run, runs / run):
        if folder.is_dir():
            return folder
    near = get_close_matches(run.name, [path.parent.name for path in runs.glob(f"[!.]*/{RECORD}")], n=1, cutoff=0.0)
    hint = f"the nearest name there is {near[0]}" if near else "no run is there"
    raise UsageError(f"--run {run}: expected the folder of a run, or its name below --runs {runs}; {hint}")


def load_run(folder: str | Path) -> Run:
    """Read a run folder. Raises: RunFolderError where it is missing, unfinished or damaged.

    >>> import octprobe
    >>> from pathlib import Path
    >>> (folder,) = Path("runs").glob("*-linear-*")
    >>> lines = octprobe.load_run(folder).predict(octprobe.read_snapshot("store"))
    >>> list(lines.columns[:4])
    ['level', 'unit', 'participant', 'eye']
    """
    folder = Path(folder)
    record = read_record(folder)
    try:
        for name in (PREDICTIONS, COHORT):
            require_regular(folder / name)
        predictions, cohort = (pd.read_parquet(folder / name) for name in (PREDICTIONS, COHORT))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"run folder {folder.name}: expected {RECORD}, {PREDICTIONS} and {COHORT}; "
            f"{type(error).__name__} while reading; make the run again"
        ) from error
    with readable(f"run folder {folder.name}"):
        if not record.asked.classes and record.asked.task_definition.get("kind") != "number":
            raise ValueError(f"{RECORD}: classes: expected at least one, got none, and the task asks for no number")
        _check_tables(predictions, cohort, len(record.asked.classes))
    return Run(record, predictions, cohort, folder)


def _check_tables(predictions: pd.DataFrame, cohort: pd.DataFrame, classes: int) -> None:
    """Raises: ValueError where a label is of no class, or a prediction is no number; KeyError without the column."""
    for name, table in ((PREDICTIONS, predictions), (COHORT, cohort)):
        label = table["label"].to_numpy(np.int64 if classes else np.float64)
        check_finite(f"{name}: label", label)
        if len(label) and classes and not 0 <= label.min() <= label.max() < classes:
            raise ValueError(f"{name}: expected labels of {classes} classes, got {label.min()} to {label.max()}")
        outside = {split for split in table["split"].unique() if str(split).startswith(f"{EXTERNAL}-")}
        known = (*SPLITS, OUT_OF_FOLD) if name == PREDICTIONS else SPLITS
        if unknown := set(table["split"].unique()) - set(known) - outside:
            raise ValueError(f"{name}: expected the splits {', '.join(known)}, got {sorted(map(str, unknown))[0]!r}")
    for kind in ("probability", "logit"):
        check_finite(
            f"{PREDICTIONS}: {kind}", predictions[[f"{kind}_{n}" for n in range(max(classes, 1))]].to_numpy(np.float64)
        )
