"""Heidelberg HEYEX database export (.e2e): several volumes a file, often of both eyes.

Source: the structure as eyepy 0.21 and oct-converter 0.7 read it (after uocte and LibE2E); checked against both. No
field of the patient is looked at.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped

from embeddings_store.schema import Eye, Note
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.heyex_grey import E2E_EMPTY, to_grey, unpack_float16
from extract.readers.one_file import only, require_number
from extract.readers.stack import Stack, require_size, to_volume
from extract.volume import Volume

MAGICS: Final = (b"CMDb", b"MDbMDir", b"E2EMultipleVolumeFile")
MULTIPLE: Final = b"E2EMultipleVolumeFile"
MULTIPLE_BYTES: Final = 64
FILE_HEADER_BYTES: Final = 36
DIRECTORY: Final = struct.Struct("<12sI20sIIII")
ENTRY: Final = struct.Struct("<4I3IiHHII")
CONTAINER_BYTES: Final = 60
IMAGE: Final = struct.Struct("<5I")
IMAGE_KIND, BSCAN_KIND = 1 << 30, 10004
SIDES: Final = {3: 4, 11: 14}
"""Kinds of parts that tell the eye, and where; the last one is believed."""

BSCAN_PIXELS: Final = 35652097
COUNT_AT: Final = 64
EYES: Final = {b"R": Eye.RIGHT, b"L": Eye.LEFT}


@dataclass
class _Series:
    """The B-scans of one series: where each lies, its rows and columns; how many there should be."""

    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    eye: Eye = Eye.UNKNOWN
    count: int = 0


class HeyexE2e:
    """Reads .e2e; grey values are those of HEYEX's own pictures. The file does not tell the spacing in mm."""

    name = "Heidelberg .e2e"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the names that begin the file."""
        return head.startswith(MAGICS)

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name no further file."""
        return ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the series that have B-scans, in the order of the file."""
        found = _series(only(files, self.name, request).data, request.source)
        return [Inside(label=str(number + 1), eye=series.eye) for number, series in enumerate(found)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read one series."""
        data = only(files, self.name, request).data
        found = _series(data, request.source)
        if not found:
            raise RefusedScan(f"{request.source}: the .e2e holds no B-scans")
        number = require_number(number, len(found), request)
        return to_volume(_stack(data, found[number], request.source), request)


def _stack(data: FileBytes, series: _Series, source: str) -> Stack:
    places = [series.places[number] for number in sorted(series.places)]
    _, rows, columns = places[0]
    if any(place[1:] != (rows, columns) for place in places):
        raise RefusedScan(f"{source}: the B-scans of the series differ in size")
    require_size((rows, columns), source, items=len(places))

    def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
        frames = np.empty((len(numbers), rows, columns), np.uint8)
        for place, number in enumerate(numbers.tolist()):
            words = np.frombuffer(data, "<u2", rows * columns, places[number][0]).reshape(rows, columns)
            frames[place] = to_grey(unpack_float16(words), E2E_EMPTY, f"{source}, B-scan {number + 1}")
        return frames, Note.NONE

    first, last = min(series.places), max(series.places)
    missing = last - first + 1 > len(places) or series.count > len(places)
    return Stack(len(places), read, eye=series.eye, notes=Note.SLICES_MISSING if missing else Note.NONE)


def _series(data: FileBytes, source: str) -> list[_Series]:
    """Find the series that have B-scans. Raises: DamagedScan where a part lies behind the end of the file."""
    found = dict[tuple[int, int, int], _Series]()
    with damage(source, ".e2e"):
        for start, size, key, slice_id, kind, shift in _entries(data, source):
            body = start + shift + CONTAINER_BYTES
            if kind not in {IMAGE_KIND, BSCAN_KIND, *SIDES}:
                continue
            if body + size > len(data):
                raise DamagedScan(
                    f"{source}: the .e2e breaks off after {len(data):,} bytes, a part ends at {body + size:,}"
                )
            series = found.setdefault(key, _Series())
            if kind in SIDES:
                eye = EYES.get(data[body + SIDES[kind] : body + SIDES[kind] + 1], Eye.UNKNOWN)
                if eye is not Eye.UNKNOWN and (series.eye is Eye.UNKNOWN or kind == max(SIDES)):
                    series.eye = eye
            elif kind == BSCAN_KIND and size >= COUNT_AT + 4:
                series.count = max(series.count, int.from_bytes(data[body + COUNT_AT : body + COUNT_AT + 4], "little"))
            elif kind == IMAGE_KIND:
                _, pixels, _, rows, columns = IMAGE.unpack(data[body : body + IMAGE.size])
                if pixels != BSCAN_PIXELS:
                    continue
                if not rows * columns or IMAGE.size + 2 * rows * columns > size:
                    raise DamagedScan(f"{source}: a B-scan of {rows} x {columns} does not fit into its {size:,} bytes")
                series.places[slice_id // 2] = (body + IMAGE.size, rows, columns)
    return [series for series in found.values() if series.places]


def _entries(data: FileBytes, source: str) -> Iterator[tuple[int, int, tuple[int, int, int], int, int, int]]:
    """Yield start, size, series, slice and kind of every part, directory by directory, and the shift of all places."""
    shift = MULTIPLE_BYTES if data[: len(MULTIPLE)] == MULTIPLE else 0
    at, seen = shift + FILE_HEADER_BYTES, set[int]()
    *_, current, _, _ = DIRECTORY.unpack(data[at : at + DIRECTORY.size])
    chain = list[int]()
    while current:
        if current in seen:
            raise DamagedScan(f"{source}: the directories of the .e2e lead back to one another")
        seen.add(current)
        chain.append(current)
        place = current + shift
        _, _, _, _, _, current, _ = DIRECTORY.unpack(data[place : place + DIRECTORY.size])
    for directory in reversed(chain):
        place = directory + shift
        _, _, _, count, _, _, _ = DIRECTORY.unpack(data[place : place + DIRECTORY.size])
        place += DIRECTORY.size
        if place + count * ENTRY.size > len(data):
            raise DamagedScan(f"{source}: a directory of the .e2e breaks off")
        for at in range(place, place + count * ENTRY.size, ENTRY.size):
            own, start, size, _, patient, study, series, slice_id, _, _, kind, _ = ENTRY.unpack(
                data[at : at + ENTRY.size]
            )
            if start > own:
                yield start, size, (patient, study, series), slice_id, kind, shift
