"""Heidelberg HEYEX raw export (.vol): a header, the fundus picture, then B-scans of float32 reflectivities.

Source: Heidelberg's Special Function: Exporting Raw Data (revision 4.0); checked against eyepy 0.21.
"""

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped

from embeddings_store.schema import Eye, Note
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan
from extract.readers.contract import Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.heyex_grey import EMPTY, to_grey
from extract.readers.one_file import OneFile
from extract.readers.stack import Stack, require_size

MAGIC: Final = b"HSF-OCT-"
BSCAN_MAGIC: Final = b"HSF-BS-"
HEADER: Final = struct.Struct("<12sIIIdddIIddId4sQII")
HEADER_BYTES: Final = 2048
BSCAN_HEADER_AT: Final = 12
LEAST_BSCAN_HEADER: Final = 256
EYES: Final = {b"OD": Eye.RIGHT, b"OS": Eye.LEFT}
RADIAL: Final = 5
"""The scan pattern of a star, whose B-scans have no distance."""


@dataclass(frozen=True)
class _Header:
    rows: int
    columns: int
    places: list[int]
    spacing_mm: tuple[float, float, float] | None
    eye: Eye


class HeyexVol(OneFile):
    """Reads .vol; grey values are those of HEYEX's own pictures."""

    name = "Heidelberg .vol"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the version that begins the file."""
        return head.startswith(MAGIC)

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Check that the file is as long as its header says."""
        data, source = file.data, request.source
        header = _read_header(data, source)

        def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
            frames = np.empty((len(numbers), header.rows, header.columns), np.uint8)
            for place, number in enumerate(numbers.tolist()):
                raw = np.frombuffer(data, "<f4", header.rows * header.columns, header.places[number])
                raw = raw.reshape(header.rows, header.columns)
                frames[place] = to_grey(raw.astype(np.float32), EMPTY, f"{source}, B-scan {number + 1}")
            return frames, Note.NONE

        return Stack(len(header.places), read, spacing_mm=header.spacing_mm, eye=header.eye)


def size_in_header(head: bytes, source: str) -> tuple[int, int, int]:
    """Give frames, rows and columns as the header of the file says. Raises: DamagedScan."""
    with damage(source, ".vol header"):
        _, columns, frames, rows, *_ = HEADER.unpack(head[: HEADER.size])
    return frames, rows, columns


def _read_header(data: FileBytes, source: str) -> _Header:
    with damage(source, ".vol header"):
        words = HEADER.unpack(data[: HEADER.size])
    _, columns, frames, rows, lateral, between, axial, slo_columns, slo_rows, *_, eye, _, pattern, head = words
    require_size((frames, rows, columns), source)
    at, places = HEADER_BYTES + slo_columns * slo_rows, list[int]()
    while len(places) < frames:  # each B-scan says the size of its header itself
        size = int.from_bytes(data[at + BSCAN_HEADER_AT : at + BSCAN_HEADER_AT + 4], "little") or head
        places.append(at + size)
        at = places[-1] + 4 * rows * columns
        if at > len(data) or size < LEAST_BSCAN_HEADER:
            raise DamagedScan(
                f"{source}: the .vol breaks off in B-scan {len(places)} of {frames} x {rows} x {columns} voxels, after "
                f"{len(data):,} bytes"
            )
    if data[at : at + len(BSCAN_MAGIC)] == BSCAN_MAGIC:
        raise DamagedScan(f"{source}: the .vol holds more B-scans than the {frames} of its header")
    told = all(math.isfinite(step_mm) and step_mm > 0 for step_mm in (axial, lateral))
    usable = pattern != RADIAL and math.isfinite(between) and between > 0
    spacing = (between if usable else math.nan, axial, lateral) if told else None
    return _Header(rows, columns, places, spacing, EYES.get(eye[:2], Eye.UNKNOWN))
