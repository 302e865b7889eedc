"""Encapsulated pixel data: which items make which frame (DICOM PS3.5, A.4)."""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from extract.dicom.codestream import RLE_HEADER_BYTES, begins_frame
from extract.dicom.header import Header
from extract.errors import ShortPixelData, UndecodablePixels

Fragment: TypeAlias = tuple[int, memoryview]
"""Where an item starts, in bytes from the first one after the Basic Offset Table, and its value."""

ITEM, DELIMITER, TRAILING_PADDING = 0xFFFEE000, 0xFFFEE0DD, 0xFFFCFFFC

DELIMITER_BYTES = struct.pack("<HHL", DELIMITER >> 16, DELIMITER & 0xFFFF, 0)


@dataclass(frozen=True, slots=True)
class Frames:
    """The fragments of each frame, which may be more frames than were declared.

    closed: the items end as they should, with a sequence delimiter or with the defined length of PixelData.
    """

    fragments: list[list[memoryview]]
    closed: bool


def find_frames(header: Header, declared: int, bytes_allocated: int, source: str) -> Frames:
    """Group the items into frames, by offset table where a sound one exists.

    Raises: ShortPixelData when the items break off or make fewer frames than declared; UndecodablePixels.
    """
    items, closed = _read_items(header, source)
    fragments = [(start - items[1][0], value) for start, value in items[1:]] if len(items) > 1 else []
    starts = {start for start, _ in fragments}
    tables = likely_tables(header, items[0][1] if items else memoryview(b""), declared)
    table = next((table for table in tables if starts.issuperset(table)), None)
    if table is not None and len(table) == declared:
        return Frames(_split_at(fragments, set(table)), closed)
    units = _split_at(fragments, set(table)) if table else [[value] for _, value in fragments]
    frames = _join_units(units, declared, bytes_allocated)
    if len(frames) < declared:
        raise ShortPixelData(f"{source}: {declared} frames declared, encapsulated items for {len(frames)} found")
    return Frames(frames, closed)


def _read_items(header: Header, source: str) -> tuple[list[Fragment], bool]:
    """List all items, the Basic Offset Table first, and tell whether they are closed."""
    value, items, position = header.pixel_data, list[Fragment](), 0
    while position + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, position)
        tag = group << 16 | element
        if tag == DELIMITER and items:
            return items, True
        if tag != ITEM:
            if items and (tag == TRAILING_PADDING or not any(value[position:])):
                return items, False
            raise UndecodablePixels(f"{source}: expected an item in the encapsulated PixelData, got ({tag:08X})")
        if position + 8 + length > len(value):
            break
        items.append((position, value[position + 8 : position + 8 + length]))
        position += 8 + length
    rest = bytes(value[position:])
    if items and position <= len(value) and (not any(rest) or DELIMITER_BYTES.startswith(rest)):
        return items, header.defined_length
    raise ShortPixelData(f"{source}: the encapsulated PixelData breaks off after {max(0, len(items) - 1)} whole items")


def likely_tables(header: Header, basic: memoryview, declared: int) -> list[list[int]]:
    """Give the offset tables that rise and cover the declared frames; to be believed, one must name items only.

    Offsets are in bytes from the first item after the Basic Offset Table, whose value is ``basic``.
    """
    return [table for table in (_extended_offsets(header), _basic_offsets(basic)) if _is_likely(table, declared)]


def _basic_offsets(value: memoryview) -> list[int]:
    count = len(value) // 4
    return list(struct.unpack_from(f"<{count}L", value))


def _extended_offsets(header: Header) -> list[int]:
    value = header.elements.get("ExtendedOffsetTable")
    if not isinstance(value, bytes):
        return []
    return list(struct.unpack_from(f"<{len(value) // 8}Q", value))


def _is_likely(table: list[int], declared: int) -> bool:
    rising = all(a < b for a, b in pairwise(table))
    return len(table) >= declared and table[0] == 0 and rising


def _split_at(fragments: list[Fragment], first: set[int]) -> list[list[memoryview]]:
    frames: list[list[memoryview]] = []
    for start, value in fragments:
        if start in first:
            frames.append([])
        frames[-1].append(value)
    return frames


def _join_units(units: list[list[memoryview]], declared: int, bytes_allocated: int) -> list[list[memoryview]]:
    """Make one frame of each unit where the numbers agree; else a frame begins where a code stream or RLE frame does.

    A unit is an item, or what the offset table says: some writers list every fragment in it.
    """
    if len(units) <= declared:
        return units
    filled = [unit for unit in units if any(map(len, unit))]
    begins = [begins_frame(b"".join(unit)[:RLE_HEADER_BYTES], bytes_allocated) for unit in filled]
    if len(filled) == declared or not any(begins[:1]):
        return filled
    frames: list[list[memoryview]] = []
    for unit, is_first in zip(filled, begins, strict=True):
        if is_first:
            frames.append([])
        frames[-1].extend(unit)
    return frames
