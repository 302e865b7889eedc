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

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from classify.errors import RunFolderError
from embeddings_store.errors import UsageError
from embeddings_store.publish import place_aside, publish, published

RECORD = "run.json"
PREDICTIONS = "predictions.parquet"
COHORT = "cohort.parquet"
MODEL = "model"
TWIN_MODEL = "model_of_random_twin"

Measures = dict[str, dict[str, Any]]
"""metric -> {"value", "low", "high"} or {"absent": reason}"""


@dataclass(frozen=True)
class RunRecord:
    """The fields of run.json, in its order. Class names are in clinical order; times in UTC; seconds by stage.

    Those with a default may be missing in older records:
    difference_to_baselines: minus each rival, by its name, on val (see compare_with_rivals).
    added_to_age_site: embedding+age+site minus age+site, on val. baselines_missing: name and reason.
    probes_of_nuisance: how well site, device, protocol, eye and age are guessed from the features, a line each.
    contrasts: {split: {contrast: measures}} and permutation: {split: null, seed, p_values}, both of participants.
    subgroups: {split: one line a group}. robustness: {"site" | "device": one line a value left out}, where asked for.
    decision_curves: {split: {contrast: curve}}, of participants. task_definition: what parse_task reads.
    class_weights: what a participant of each class weighs when the head is fitted. measurements: what was read of them.
    pretraining: how many participants of each split the encoder has seen, and {split: the result without them}.
    table_notes: what was mended in the tables that were read, with counts.
    seed_sensitivity: val again with other seeds of the final fit, where asked for.
    difference_to_random_twin: on val, with what the twin is in random_twin. inputs_sha256: see digest_inputs.
    calibration: method, parameters, before and after on val. evaluations: one entry a look of this run at test.
    test_people: all test people of the participants table, see People. resplit: why people of earlier runs stand
    otherwise here, where they do.
    encoder_source: the fields of EncoderSource, None where the store does not say. near_copies_allowed: of Vouched.
    """

    id: str
    created: str
    command: list[str]
    model: str
    task: str
    classes: list[str]
    space: str
    embedding_space: dict[str, Any]
    snapshot: dict[str, Any]
    cohort_sha256: str
    splits: dict[str, Any]
    features: dict[str, Any]
    parameters: dict[str, Any]
    search: dict[str, Any] | None
    seeds: dict[str, int]
    metrics: dict[str, dict[str, Measures]]
    confusion: dict[str, list[list[int]]]
    baselines: dict[str, dict[str, Measures]]
    difference_to_age_site: Measures
    flow: list[dict[str, Any]]
    phantom: bool
    seconds: dict[str, float]
    versions: dict[str, str]
    added_to_age_site: Measures = field(default_factory=dict)
    difference_to_baselines: dict[str, Measures] = field(default_factory=dict)
    baselines_missing: list[dict[str, str]] = field(default_factory=list)
    probes_of_nuisance: list[dict[str, Any]] = field(default_factory=list)
    contrasts: dict[str, dict[str, Any]] = field(default_factory=dict)
    permutation: dict[str, dict[str, Any]] = field(default_factory=dict)
    subgroups: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    robustness: dict[str, list[dict[str, Any]]] | None = None
    seed_sensitivity: dict[str, Any] | None = None
    decision_curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    task_definition: dict[str, Any] = field(default_factory=dict)
    class_weights: dict[str, float] = field(default_factory=dict)
    measurements: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    table_notes: list[str] = field(default_factory=list)
    difference_to_random_twin: Measures = field(default_factory=dict)
    random_twin: dict[str, Any] | None = None
    inputs_sha256: str = ""
    calibration: dict[str, Any] | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    test_people: dict[str, list[str]] = field(default_factory=dict)
    resplit: dict[str, Any] | None = None
    encoder_source: dict[str, Any] | None = None
    near_copies_allowed: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """A run folder that was read back: the record as a dictionary, the tables, and where the model lies."""

    record: dict[str, Any]
    predictions: pd.DataFrame
    cohort: pd.DataFrame
    folder: Path

    def predict(self, table: object) -> pd.DataFrame:
        """Give one line a volume, eye and participant: the numbers that ``classify predict`` writes.

        table: raw vectors, which the run standardises itself: a snapshot (every column of the command), the frame of a
        snapshot (the same), or a FeatureTable of the run's features (level, unit, participant and probabilities).
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


def save_run(
    aside: Path, record: RunRecord, predictions: pd.DataFrame, cohort: pd.DataFrame, marked: pd.DataFrame
) -> Path:
    """Write the tables and, last, the record, then publish the folder under its id. The model lies there already.

    marked: what each volume of the cohort is known by, see mark_volumes.
    """
    predictions.to_parquet(aside / PREDICTIONS, index=False)
    remembered = cohort.merge(marked.drop(columns="participant"), on="volume", how="left", validate="1:1")
    remembered.to_parquet(aside / COHORT, index=False)
    (aside / RECORD).write_text(json.dumps(record.to_dict(), indent=2, allow_nan=False))
    return publish(aside, aside.parent.parent / record.id)


def update_run(run: Run, record: Mapping[str, Any], predictions: pd.DataFrame, *, split: str) -> None:
    """Put the predictions of one more split and the new record into a finished run; each file is replaced whole.

    Predictions of that split from before are replaced. run.json comes last: it never speaks of what is not there.
    Raises: RunFolderError where the folder cannot be written; the run then is as it was.
    """
    kept = run.predictions[run.predictions["split"] != split]
    try:
        with published(run.folder / PREDICTIONS) as aside:
            pd.concat([kept, predictions], ignore_index=True).to_parquet(aside, index=False)
        with published(run.folder / RECORD) as aside:
            aside.write_text(json.dumps(record, indent=2, allow_nan=False))
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


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises: RunFolderError where it is missing, unfinished or damaged."""
    try:
        record = dict(json.loads((folder / RECORD).read_text()))
        return Run(record, pd.read_parquet(folder / PREDICTIONS), pd.read_parquet(folder / COHORT), folder)
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"run folder {folder.name}: expected {RECORD}, {PREDICTIONS} and {COHORT}; "
            f"{type(error).__name__} while reading; make the run again"
        ) from error
