"""Files of NumPy, read in several threads at once, and never unpickled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.lib import format as npy_format

from embeddings_store.regular_file import require_regular

T = TypeVar("T")

LONGEST_HEADER: Final = 10_000
"""Characters: NumPy's own limit for files of strangers."""

READ: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_numpy(path: Path) -> Any:
    """Return the array of an .npy file, or the arrays of an .npz file by name.

    Raises: OSError, ValueError, EOFError and, for .npz, zipfile.BadZipFile, for what cannot be read.
    """
    require_regular(path)
    with path.open("rb") as file:
        return _look_twice(file, _load)


def read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Give shape, whether the first axis runs fastest, and type; the stream then stands at the numbers.

    Raises: ValueError for what is no header of version 1 or 2.
    """
    return _look_twice(stream, _header)


def _load(file: Any) -> Any:
    found = np.load(file, allow_pickle=False)
    return found if isinstance(found, np.ndarray) else dict(found)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version not in READ:
        raise ValueError(f"version {version}")
    shape, fortran, dtype = READ[version](stream, max_header_size=LONGEST_HEADER)
    if any(not isinstance(length, int) or length < 0 for length in shape):
        raise ValueError("a negative length")
    return shape, fortran, dtype


def _look_twice(stream: Any, read: Callable[[Any], T]) -> T:
    """Read again after a SystemError: Python before 3.11.8 miscounts where two threads parse a header at once.

    It is cpython issue 106905.
    """
    begin = stream.tell()
    try:
        return read(stream)
    except SystemError:
        stream.seek(begin)
        return read(stream)
