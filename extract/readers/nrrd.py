"""NRRD (.nrrd, .nhdr with its pixels): a header of text, an empty line, then the pixels, the first axis fastest."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.inflate import expand_bz2, inflate
from extract.readers.one_file import require_number
from extract.readers.raw_block import (
    LONGEST_HEADER,
    Block,
    pixel_file,
    real_numbers,
    require_known,
    require_plain_name,
    whole_numbers,
)
from extract.readers.stack import Spacing, Stack, arrange, arrange_spacing, stack_of, to_volume
from extract.volume import Volume

MAGIC: Final = b"NRRD000"
NAMES: Final = {
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i1": ("signed char", "int8", "int8_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
TYPES: Final = {name: code for code, names in NAMES.items() for name in names}
ENCODINGS: Final = {"raw": None, "gzip": inflate, "gz": inflate, "bzip2": expand_bz2, "bz2": expand_bz2}
ORDERS: Final = {"little": "<", "big": ">"}
VECTOR: Final = re.compile(r"\(([^()]*)\)|none")


class Nrrd:
    """Reads NRRD. --axes names the axes of `sizes` the slowest first, as SimpleITK's arrays have them."""

    name = "NRRD"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the mark."""
        return head.startswith(MAGIC)

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name the file of the pixels, if it is another."""
        place = _place(_fields(bytes(data[:LONGEST_HEADER]), "header")[0])
        if place is None:
            return ()
        require_plain_name(place, "header")
        return (place,)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume."""
        return [Inside(spacing_mm=_stack(files, request).spacing_mm)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the one volume."""
        require_number(number, 1, request)
        return to_volume(_stack(files, request), request)


def size_in_header(head: bytes, source: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give the lengths of the three axes, the slowest first, and the type. Raises: ScanError."""
    block = _block(_fields(head, source)[0], source)
    return block.lengths[:-4:-1], block.dtype


def _stack(files: Sequence[ScanFile], request: Request) -> Stack:
    source = request.source
    headers = [file for file in files if file.head.startswith(MAGIC)]
    if len(headers) != 1:
        raise RefusedScan(f"{source}: expected one NRRD header, got {len(headers)} among {len(files)} files")
    fields, end = _fields(bytes(headers[0].data[:LONGEST_HEADER]), source)
    place, block = _place(fields), _block(fields, source)
    data = memoryview(headers[0].data)[end:]
    if place is not None:
        data = memoryview(pixel_file(place, files, headers[0], source).data)
    data = _skip(data, fields, block, source)
    array, note = arrange(block.read(data, source), request.options, source)
    return stack_of(array, notes=note, spacing_mm=arrange_spacing(_spacing(fields), request.options))


def _fields(head: bytes, source: str) -> tuple[dict[str, str], int]:
    """Read the header to its empty line; also give where it ends."""
    fields, position = dict[str, str](), 0
    while (end := head.find(b"\n", position)) >= 0:
        line = head[position:end].decode("latin-1").strip()
        position = end + 1
        if not line:
            return fields, position
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().casefold()] = value.strip()
    if position == len(head) < LONGEST_HEADER:  # a detached header may end with its last line
        return fields, position
    raise DamagedScan(f"{source}: the NRRD header breaks off")


def _place(fields: dict[str, str]) -> str | None:
    return fields.get("data file", fields.get("datafile"))


def _block(fields: dict[str, str], source: str) -> Block:
    lengths = whole_numbers(fields.get("sizes", ""), "sizes", source)
    (count,) = whole_numbers(fields.get("dimension", ""), "dimension", source)[:1]
    if count != len(lengths):
        raise DamagedScan(f"{source}: dimension says {count} axes, sizes {len(lengths)}")
    code = require_known(fields, "type", TYPES, source)
    order = require_known(fields, "endian", ORDERS, source) if code[1] != "1" else "<"
    expand = require_known(fields, "encoding", ENCODINGS, source)
    if count != 3 and not (count == 4 and lengths[0] in {1, 3, 4}):
        raise RefusedScan(f"{source}: expected three axes, got {count} ({list(lengths)}): save one scan a file")
    return Block(lengths, np.dtype(order + code), expand)


def _skip(data: memoryview, fields: dict[str, str], block: Block, source: str) -> memoryview:
    lines, count = (real_numbers(fields.get(key, "0")) for key in ("line skip", "byte skip"))
    if lines not in {(0.0,), None} or count is None or len(count) != 1 or not -1 <= count[0] <= len(data):
        raise RefusedScan(f"{source}: expected pixels behind no skipped lines, and a byte skip in the file")
    if count[0] == -1:
        return data[max(len(data) - math.prod(block.lengths) * block.dtype.itemsize, 0) :]
    return data[int(count[0]) :]


def _spacing(fields: dict[str, str]) -> Spacing | None:
    """Give the steps along the axes, the slowest first, in mm or in what the file takes for it."""
    steps: list[float] = []
    if "spacings" in fields:
        steps = list(real_numbers(fields["spacings"]) or ())
    elif "space directions" in fields:
        found = [match[1] for match in VECTOR.finditer(fields["space directions"]) if match[1] is not None]
        steps = [math.hypot(*(real_numbers(text.replace(",", " ")) or (math.nan,))) for text in found]
    steps = steps[-3:]
    return (steps[2], steps[1], steps[0]) if len(steps) == 3 else None
