"""What of a run may leave this machine: nothing about a participant, unless that was asked for.

::

    <aside>/<run>/
      run.json                             the record without its lists of people
      predictions.parquet, cohort.parquet  their columns, and no line
      model/                               head, standardiser, calibration: what a prediction needs

The test split's people, the vectors of train that novelty and known volumes are judged by (model/reference), the model
of the random twin and the journal of the search stay here.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import pandas as pd

from classify.fitting.model import load_model
from classify.heads.contract import STATE
from classify.judging.kept_calibrator import read_calibrator
from classify.model_files import digest_files
from classify.run.folder import COHORT, MODEL, PREDICTIONS
from classify.run.record import RECORD, RunRecord
from classify.run.typed_record import write_record
from embeddings_store.errors import RunError
from embeddings_store.publish import place_aside
from reports.runs import FinishedRun


@dataclass(frozen=True, slots=True)
class SharedRun:
    """What is sent of a run. record: its run.json. model_folder: a run folder that load_run reads.

    model_folder None: no model is sent. held_back: because the head holds rows of training participants.
    """

    record: Path
    model_folder: Path | None
    held_back: bool = False


def share_run(run: FinishedRun, aside: Path, *, with_participants: bool) -> SharedRun:
    """Say what is sent of a run; what has to be written anew for it lies in a folder aside.

    Raises: RunFolderError where the model is damaged, OSError where nothing can be written.
    """
    has_model = _has_model(run)
    if with_participants:
        return SharedRun(run.folder / RECORD, run.folder if has_model else None)
    folder = aside / run.folder.name
    (folder / MODEL).mkdir(parents=True)
    model = load_model(run.run) if has_model else None
    send = model is not None and not model.head.keeps_rows
    if model is not None and send:
        model.save(folder / MODEL)
        if calibrator := read_calibrator(run.run.model_folder(), len(run.classes)):
            calibrator.save(folder / MODEL)
        for name, table in ((PREDICTIONS, run.run.predictions), (COHORT, run.run.cohort)):
            pd.DataFrame(columns=table.columns).to_parquet(folder / name, index=False)
    record = replace(
        without_people(run.record),
        made=replace(run.record.made, model_sha256={MODEL: digest_files(folder / MODEL)} if send else {}),
    )
    write_record(folder / RECORD, record.to_dict())
    return SharedRun(folder / RECORD, folder if send else None, has_model and not send)


def without_people(record: RunRecord) -> RunRecord:
    """Return the record without the ids and digests of its test people, and of those whom its maker vouched for."""
    return replace(record, cohort=replace(record.cohort, test_people={}, near_copies_allowed={}))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for what is sent; one that a killed process left goes. Raises: RunError where there is no place."""
    with ExitStack() as held:
        try:
            folder = held.enter_context(place_aside(Path(gettempdir()) / "octprobe-track"))
            folder.mkdir()
        except OSError as error:
            raise RunError(
                f"TMPDIR: expected a folder that can be written, got: {error.strerror}; set TMPDIR"
            ) from error
        yield folder


def _has_model(run: FinishedRun) -> bool:
    """Say whether there is a head over pooled vectors, as probe saves it: no fine-tuned encoder, no tokens."""
    return not run.stages and not run.record.fitted.features.get("token_grid") and (run.folder / MODEL / STATE).exists()
