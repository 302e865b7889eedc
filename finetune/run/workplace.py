"""Where a run keeps what it needs until it is published: preprocessed volumes and the training state."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from classify.errors import RunFolderError
from embeddings_store.errors import OctProbeError
from embeddings_store.regular_file import require_regular
from finetune.errors import DivergedError
from finetune.parallel.processes import Processes
from finetune.training.resume import STATES, StateFolder


@contextmanager
def work_folder(runs: Path, key: str, processes: Processes) -> Iterator[Path]:
    """Give ``<runs>/.finetune-<key>``; a killed run leaves it, and the same command goes on from there.

    It is removed at the end, and after a failure that a new start would only repeat. One run at a time may use it.
    Raises RunFolderError where it cannot be written or another run is at work in it.
    """
    folder, is_new = runs / f".finetune-{key}", not runs.exists()
    with _locked(runs, folder) if processes.rank == 0 else nullcontext():
        processes.compare(None)  # the others wait until the folder is there
        try:
            yield folder
        except OctProbeError as error:
            repeats = isinstance(error, DivergedError) or not StateFolder(folder / STATES).exists
            if processes.rank == 0 and repeats:
                _remove(folder)
                if is_new:
                    with suppress(OSError):  # another run may have begun there
                        runs.rmdir()
            raise
        if processes.rank == 0:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove it, its state in one step: half a state, which a kill would leave, is damaged to the next run."""
    with suppress(OSError):
        (folder / STATES).rename(folder / f"removed-{uuid.uuid4().hex}")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(runs: Path, folder: Path) -> Iterator[None]:
    """Make the folder, and hold its lock."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            require_regular(folder / "lock")
            lock = held.enter_context((folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(
                f"--runs {runs}: the same fine-tuning is running there already; wait for it, or choose another --runs"
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"--runs {runs}: expected a folder that can be written, got: {error.strerror}; choose another --runs"
            ) from error
        yield
