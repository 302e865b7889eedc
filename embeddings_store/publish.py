"""The one way to publish: written aside, in a folder of this process's own, flushed, and put in place by one rename.

::

    <folder>/.<name>.<8 letters>.aside/   holds what is being written; its lock is held as long as the writer lives
      lock
      <name>                              under the name that it will have, so that its ending says what it is
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from embeddings_store.errors import UsageError
from embeddings_store.regular_file import require_regular

ASIDE = ".aside"
LOCK = "lock"
LONGEST = 50
"""Letters of a name that the folder aside repeats: names of files end at 255 bytes."""


@contextmanager
def published(path: Path, *, durable: bool = True, alone: bool = False) -> Iterator[Path]:
    """Yield a place aside for a file or folder, which takes the place of ``path`` unless something is raised.

    durable: it is on the disk before it is seen; alone: see place_aside. Raises: OSError, UsageError.
    """
    with place_aside(path, alone=alone) as aside:
        yield aside
        publish(aside, path, durable=durable)


def publish(aside: Path, path: Path, *, durable: bool = True) -> Path:
    """Put what was written aside in place, and return its path. Raises: OSError."""
    if durable:
        for one in (*aside.rglob("*"), aside):
            flush(one)
    aside.replace(path)
    if durable:
        flush(path.parent)
    return path


@contextmanager
def place_aside(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a free path, named as ``path`` and on its disk; what still lies there at the end is removed.

    What killed processes left next to it is removed, too. alone: nobody else may be writing to the same path.
    Raises: OSError where the folder cannot be written, UsageError where another process is writing to it.
    """
    folder, name = path.absolute().parent, path.name[:LONGEST]
    sweep(folder)
    own, lock = _new_folder(folder, name)
    try:
        with lock:
            others = [one for one in _asides(folder) if alone and one != own and one.name.startswith(f".{name}.")]
            if any(map(_is_held, others)):
                raise UsageError(f"{path}: another process is writing there; wait for it, or choose another name")
            yield own / path.name
    finally:
        _remove(own)


@cache
def sweep(folder: Path) -> None:
    """Remove what writers that were killed left aside in a folder; once per process, for folders may be large."""
    for one in _asides(folder):
        with suppress(OSError), (one / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(one)  # with its lock held, so that nobody can take it for their own


def _remove(aside: Path) -> None:
    """Remove a folder aside, its lock last: what a killed process left of it is still known as one."""
    with suppress(OSError):
        for one in aside.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one, ignore_errors=True)
            elif one.name != LOCK:
                one.unlink(missing_ok=True)
    shutil.rmtree(aside, ignore_errors=True)


def _new_folder(folder: Path, name: str) -> tuple[Path, IO[bytes]]:
    """Make a folder aside and hold its lock; one that was swept before it was locked is made again."""
    while True:
        own = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=ASIDE, dir=folder))
        try:
            lock = (own / LOCK).open("wb")
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if (own / LOCK).stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return own, lock
        lock.close()


def _asides(folder: Path) -> list[Path]:
    """List the folders aside in a folder that belong to this user: with a lock, or empty, as one is when it is made."""
    with suppress(OSError):
        found = [one for one in folder.iterdir() if one.name.startswith(".") and one.name.endswith(ASIDE)]
        own = [one for one in found if one.is_dir() and one.lstat().st_uid == os.geteuid()]
        return [one for one in own if (one / LOCK).is_file() or not any(one.iterdir())]
    return []


def _is_held(aside: Path) -> bool:
    """Return whether the process that writes into a folder aside is alive."""
    try:
        require_regular(aside / LOCK)
        with (aside / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def flush(path: Path) -> None:
    """Have a file or folder outlast a power cut."""
    with suppress(IsADirectoryError, PermissionError):  # some places let nobody open a folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
