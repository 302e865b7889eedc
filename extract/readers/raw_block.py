"""Pixels behind a text header, as MetaImage and NRRD have them: their type, their place, and whether all are there."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Shaped

from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import ScanFile
from extract.readers.npy import as_array
from extract.readers.stack import require_size

Expand = Callable[[bytes | memoryview, int, str], bytes]
LONGEST_HEADER: Final = 1 << 16


@dataclass(frozen=True)
class Block:
    """What a header says of its pixels. lengths: of the axes, the fastest first, colours included."""

    lengths: tuple[int, ...]
    dtype: np.dtype[Any]
    expand: Expand | None = None

    def read(self, data: FileBytes | memoryview, source: str, *, exact: bool = True) -> Shaped[np.ndarray, "..."]:
        """See the pixels as an array, the slowest axis first. Raises: ScanError."""
        require_size(self.lengths, source)
        size = math.prod(self.lengths) * self.dtype.itemsize
        body = memoryview(data) if self.expand is None else memoryview(self.expand(memoryview(data), size, source))
        if len(body) < size or (exact and len(body) != size):
            raise DamagedScan(
                f"{source}: {' x '.join(map(str, self.lengths))} of {self.dtype} take {size:,} bytes, the file has "
                f"{len(body):,}"
            )
        return as_array(body[:size], self.lengths[::-1], self.dtype, fortran=False)


def whole_numbers(text: str, what: str, source: str) -> tuple[int, ...]:
    """Read lengths. Raises: DamagedScan."""
    words = text.split()
    if not words or len(words) > 16 or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise DamagedScan(f"{source}: expected whole numbers in {what}, got {text[:40]!r}")
    return tuple(map(int, words))


def real_numbers(text: str) -> tuple[float, ...] | None:
    """Read steps; None where they are malformed."""
    try:
        return tuple(float(word) for word in text.split())
    except ValueError:
        return None


def pixel_file(name: str, files: Sequence[ScanFile], header: ScanFile, source: str) -> ScanFile:
    """Find the file of the pixels among those of the scan, in the header's folder and nowhere else."""
    require_plain_name(name, source)
    wanted = [file for file in files if file is not header and file.base == name]
    if len(wanted) != 1:
        raise RefusedScan(f"{source}: the file of the pixels, which the header names, is not in its folder")
    return wanted[0]


def require_plain_name(name: str, source: str) -> None:
    """Refuse a name that leads out of the folder. Raises: RefusedScan."""
    if not name or "/" in name or "\\" in name or name in {".", ".."} or "%" in name or len(name.split()) > 8:
        raise RefusedScan(f"{source}: expected pixels in one file in the header's folder, got another place")


def require_known(fields: Mapping[str, str], key: str, known: Mapping[str, Any], source: str) -> Any:
    """Look a word up. Raises: RefusedScan."""
    word = fields.get(key, "").casefold()
    if word not in known:
        raise RefusedScan(f"{source}: expected {key} to be one of {', '.join(known)}, got {word[:40]!r}")
    return known[word]
