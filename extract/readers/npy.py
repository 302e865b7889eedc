"""A NumPy array (.npy): its header is checked before anything is allocated, and pickled objects are never loaded."""

from io import BytesIO
from typing import Any, Final

import numpy as np
from jaxtyping import Shaped

from embeddings_store import numpy_file
from embeddings_store.numpy_file import LONGEST_HEADER
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Request, ScanFile
from extract.readers.foreign import damage, quiet
from extract.readers.one_file import OneFile
from extract.readers.stack import Stack, arrange, require_size, stack_of

MAGIC: Final = b"\x93NUMPY"


class Npy(OneFile):
    """Reads .npy; grey as a fourth axis of equal colours is taken too."""

    name = "NumPy array"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by NumPy's mark."""
        return head.startswith(MAGIC) or (not head and name.casefold().endswith(".npy"))

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Read the array, without a copy where that can be."""
        array, note = arrange(read_array(file.data, request.source), request.options, request.source)
        return stack_of(array, notes=note)


def read_array(data: Any, source: str) -> Shaped[np.ndarray, "..."]:
    """Read the bytes of a .npy. Raises: DamagedScan, RefusedScan (objects), TooLarge."""
    stream = BytesIO(data[: LONGEST_HEADER + 16])
    shape, fortran, dtype = read_header(stream, source)
    require_plain(dtype, source)
    size = require_bytes(shape, dtype, len(data) - stream.tell(), source)
    return as_array(memoryview(data)[stream.tell() : stream.tell() + size], shape, dtype, fortran=fortran)


def read_header(stream: Any, source: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Give shape, whether the first axis runs fastest, and type. Raises: DamagedScan."""
    with damage(source, "array's header"), quiet():
        return numpy_file.read_header(stream)


def require_plain(dtype: np.dtype[Any], source: str) -> None:
    """Refuse pickled objects, which could run code, and records, before they are looked at. Raises: RefusedScan."""
    if dtype.hasobject:
        raise RefusedScan(
            f"{source}: the array holds pickled Python objects, which are never loaded: they could run code; "
            "save the scan as a plain numeric array"
        )
    if dtype.kind not in "buif":
        raise RefusedScan(f"{source}: expected whole or real numbers, got an array of {str(dtype)[:40]}")


def require_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], available: int, source: str) -> int:
    """Give the size of an array in bytes; refuse one that is not all there, or not all of what is there."""
    require_size(shape, source)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != available:
        raise DamagedScan(f"{source}: shape {list(shape)} of {dtype} takes {size:,} bytes, the file has {available:,}")
    return size


def as_array(
    data: bytes | memoryview, shape: tuple[int, ...], dtype: np.dtype[Any], *, fortran: bool
) -> Shaped[np.ndarray, "..."]:
    """See bytes as an array, without a copy."""
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
