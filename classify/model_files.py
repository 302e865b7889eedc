"""Files of a run folder are input: JSON and plain arrays are read here, bounded and finite, or refused in one line."""

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Shaped

from classify.errors import RunFolderError
from embeddings_store.numpy_file import read_header, read_numpy
from embeddings_store.regular_file import require_regular, require_regular_below

LARGEST_JSON = 1 << 28
"""Bytes: a record that names the test people of 250,000 volumes is a tenth of it."""

DEEPEST = 60
DAMAGE = (
    OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError,
    zipfile.BadZipFile,
)  # fmt: skip
"""What reading a damaged file may raise; the file is then named in one line. RecursionError is a RuntimeError."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into one line that names it. Raises: RunFolderError."""
    try:
        yield
    except RunFolderError:
        raise
    except DAMAGE as error:
        told = error.strerror if isinstance(error, OSError) else str(error)  # an OSError names the whole path
        reason = " ".join((told or "").split())[:200] or type(error).__name__
        raise RunFolderError(f"{what} cannot be read: {reason}; make the run again") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; every number in it is finite. Raises: RunFolderError, in one line."""
    with readable(f"{path.parent.name}/{path.name}"):
        require_regular(path)
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise ValueError(f"expected at most {LARGEST_JSON} bytes, got {size}")
        found = json.loads(path.read_bytes(), parse_constant=_refuse)
        _check_tree(found)
        return found


def read_object(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds, which has to be an object. Raises: RunFolderError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise RunFolderError(f"{path.parent.name}/{path.name}: expected a JSON object, got {type(found).__name__}")
    return found


def read_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the arrays of an .npz file by name: as long as their shapes say, and finite. Nothing is unpickled.

    Raises: RunFolderError.
    """
    with readable(f"{path.parent.name}/{path.name}"):
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    _check_length(stream, member)
        found: dict[str, np.ndarray] = read_numpy(path)
        for name, array in found.items():
            check_finite(name, array)
        return found


def check_finite(name: str, array: Shaped[np.ndarray, "..."]) -> None:
    """Raises: ValueError where a number of an array is not finite."""
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, {int((~np.isfinite(array)).sum())} are not")


def digest_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path in it."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = file_digest(file, "sha256").hexdigest()
    return found


def check_digests(folder: Path, wanted: Mapping[str, str]) -> None:
    """Refuse files that are not as they were written; wanted: {} of a run that was made before this was kept.

    Raises: RunFolderError.
    """
    with readable(f"{folder.parent.name}/{folder.name}"):
        require_regular_below(folder)
        unlike = find_unlike(folder, wanted)
    if unlike:
        found = "another one" if (folder / unlike[0]).is_file() else "none"
        raise RunFolderError(
            f"{folder.parent.name}/{folder.name}/{unlike[0]}: expected the file that the run wrote (its SHA-256 is in "
            f"run.json), got {found}; restore it, or make the run again"
        )


def find_unlike(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Name the files that are missing or have another digest than is wanted. Raises: OSError."""
    found = digest_files(folder) if wanted else {}
    return sorted(name for name, digest in wanted.items() if found.get(name) != digest)


def _check_length(stream: Any, member: zipfile.ZipInfo) -> None:
    """Raises: ValueError for an array that is shorter or longer than its header says, before memory is taken for it."""
    shape, _, dtype = read_header(stream)
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or member.compress_type != zipfile.ZIP_STORED or expected != member.file_size:
        raise ValueError(f"{member.filename}: expected {expected} plain bytes of shape {shape}, got {member.file_size}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"expected finite numbers, got {constant}")


def _check_tree(tree: Any) -> None:
    """Raises: ValueError for a number that is infinite, or for nesting that no record has."""
    level, depth = [tree], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"expected at most {DEEPEST} levels, got more")
        if any(isinstance(one, float) and not math.isfinite(one) for one in level):
            raise ValueError("expected finite numbers, got one that is not")
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
