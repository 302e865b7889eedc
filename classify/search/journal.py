"""The file of a study: held by one process at a time, and gone on with from its last whole line.

While it is held, nobody else writes to it, so Optuna's own lock, which a killed process leaves behind, is not needed.
"""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classify.errors import RunFolderError
from embeddings_store.errors import UsageError
from embeddings_store.regular_file import require_regular

LOCK = ".lock"


class _Held:
    """Stands where Optuna has its lock: hold_study keeps others out."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def hold_study(folder: Path) -> Iterator[None]:
    """Make the folder of a study, and keep other processes out of it.

    Raises: RunFolderError where it cannot be written, UsageError that names the process which is searching in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_regular(folder / LOCK)
        lock = (folder / LOCK).open("a+")
    except OSError as error:
        raise RunFolderError(f"{folder}: expected a folder that can be written, got: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise UsageError(
                f"study {folder.name}: another process is searching in it ({lock.read(200) or 'it gave no name'}); "
                "wait for it, or choose another --seed or --study"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def mend_journal(journal: Path) -> int:
    """Cut a journal off after its last whole line, and return how many bytes went; 0 where all are whole.

    Raises: RunFolderError.
    """
    try:
        require_regular(journal)
        data = journal.read_bytes() if journal.exists() else b""
    except OSError as error:
        raise RunFolderError(f"{journal}: expected a file that can be read, got: {error.strerror}") from error
    whole = 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n") or not _is_entry(line):
            break
        whole += len(line)
    if whole < len(data):
        os.truncate(journal, whole)
    return len(data) - whole


def open_journal(journal: Path) -> Any:
    """Open Optuna's storage in a journal of a study that is held. Raises: RunFolderError."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=_Held()))  # type: ignore[arg-type]
        known = len(storage.get_all_studies())
    except OSError as error:
        raise RunFolderError(f"{journal}: expected a file that can be written, got: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise _contradicts(journal) from error
    if journal.stat().st_size and not known:
        raise _contradicts(journal)
    return storage


def _contradicts(journal: Path) -> RunFolderError:
    return RunFolderError(
        f"{journal}: expected the journal of a search, got one that contradicts itself; move it away to begin again"
    )


def _is_entry(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return False
