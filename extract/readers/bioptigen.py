"""Bioptigen (Leica) .OCT: named fields, then frames of 16-bit A-scans; volumes of equal size follow one another.

Source: the structure as oct-converter 0.7 reads it; checked against it. The eye stands in the file's name alone.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped

from embeddings_store.schema import Note
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.names import eye_in_name
from extract.readers.one_file import only, require_number
from extract.readers.stack import Spacing, Stack, require_size, to_volume
from extract.volume import Volume

MARK: Final = b"FRAMEHEADER"
START: Final = 6  # magic number and version
HEADER: Final = (
    *(
        "framecount",
        "linecount",
        "linelength",
        "sampleformat",
        "description",
        "xmin",
        "xmax",
        "xcaption",
        "ymin",
        "ymax",
    ),
    *("ycaption", "scantype", "scandepth", "scanlength", "azscanlength", "elscanlength", "objectdistance", "scanangle"),
    *("scans", "frames", "dopplerflag", "config"),
)
FRAME: Final = ("framedatetime", "frametimestamp", "framelines")
"""Fields in their order, behind one that only opens the header or the frame; their names in the file are not used."""

CLOSING: Final = 4  # bytes that end a header and a frame
LONGEST_NAME: Final = 64
LINEAR: Final = 0


@dataclass(frozen=True)
class _Scan:
    fields: Mapping[str, bytes]
    places: list[int]
    rows: int
    columns: int

    def number(self, name: str) -> int:
        """Give a whole number of the header; 0 where it is not there."""
        return int.from_bytes(self.fields.get(name, b""), "little")

    @property
    def shape(self) -> tuple[int, int]:
        """Volumes, and B-scans of each."""
        frames, scans = max(self.number("frames"), 1), max(self.number("scans"), 1)
        return (frames * scans, 1) if self.number("scantype") == LINEAR else (frames, scans)


class Bioptigen:
    """Reads .OCT."""

    name = "Bioptigen .OCT"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the first field, or by the name and a field of any name."""
        length = int.from_bytes(head[START : START + 4], "little")
        named = name.casefold().endswith(".oct") and 0 < length <= LONGEST_NAME
        return named or head[START + 4 : START + 4 + len(MARK)] == MARK

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name no further file."""
        return ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the volumes, all of one eye."""
        file = only(files, self.name, request)
        scan = _scan(file.data, request.source)
        eye, spacing = eye_in_name(file.name), _spacing(scan)
        return [Inside(label=str(number + 1), eye=eye, spacing_mm=spacing) for number in range(scan.shape[0])]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read one volume."""
        file = only(files, self.name, request)
        scan = _scan(file.data, request.source)
        volumes, frames = scan.shape
        number = require_number(number, volumes, request)

        def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
            places = [scan.places[number * frames + own] for own in numbers.tolist()]
            lines = [np.frombuffer(file.data, "<u2", scan.rows * scan.columns, place) for place in places]
            return np.stack([one.reshape(scan.columns, scan.rows).T for one in lines]), Note.NONE

        return to_volume(Stack(frames, read, _spacing(scan), eye_in_name(file.name)), request)


def _scan(data: FileBytes, source: str) -> _Scan:
    """Find all frames. Raises: DamagedScan where one breaks off or differs from the first, or some are missing."""
    with damage(source, "Bioptigen file"):
        fields, at = _fields(data, _open(data, START), HEADER)
        places, sizes = list[int](), set[tuple[int, int]]()
        rows, count = (int.from_bytes(fields[name], "little") for name in ("linelength", "framecount"))
        at += CLOSING
        while len(places) < count:
            frame, at = _fields(data, _open(data, at), FRAME)
            columns = int.from_bytes(frame["framelines"], "little")
            places.append(_open(data, at))
            sizes.add((rows, columns))
            at = places[-1] + 2 * rows * columns
            if at > len(data) or not rows * columns:
                raise DamagedScan(f"{source}: the file breaks off in B-scan {len(places)} of {count}")
            at += CLOSING
    if len(sizes) != 1:
        raise DamagedScan(f"{source}: expected B-scans of one size, got {len(sizes)} sizes")
    scan = _Scan(fields, places, rows, sizes.pop()[1])
    require_size((rows, scan.columns), source, items=count)
    if scan.shape[0] * scan.shape[1] != count:
        raise DamagedScan(
            f"{source}: {scan.shape[0]} volumes of {scan.shape[1]} B-scans are not the {count} in the file"
        )
    return scan


def _open(data: FileBytes, at: int) -> int:
    """Pass the name and the size of a field; give where its value begins."""
    (length,) = struct.unpack_from("<I", data, at)
    if not 0 < length <= LONGEST_NAME:
        raise ValueError(f"a field's name of {length} bytes")
    if at + 8 + length > len(data):
        raise ValueError("a field breaks off")
    return at + 8 + int(length)


def _fields(data: FileBytes, at: int, names: Sequence[str]) -> tuple[dict[str, bytes], int]:
    """Read fields in their order; also give where the last one ends."""
    fields = dict[str, bytes]()
    for name in names:
        start = _open(data, at)
        (size,) = struct.unpack_from("<I", data, start - 4)
        if start + size > len(data):
            raise ValueError(f"the field {name} breaks off")
        fields[name] = bytes(data[start : start + size])
        at = start + size
    return fields, at


def _spacing(scan: _Scan) -> Spacing | None:
    """Give the steps in mm, from the lengths of the scan."""
    depth, width, height = (_real(scan, name) for name in ("scandepth", "azscanlength", "elscanlength"))
    steps = (height / scan.shape[1], depth / scan.rows, width / scan.columns)
    return steps if all(np.isfinite(step) and step > 0 for step in steps) else None


def _real(scan: _Scan, name: str) -> float:
    value = scan.fields.get(name, b"")
    return float(struct.unpack("<d", value)[0]) if len(value) == 8 else float("nan")
