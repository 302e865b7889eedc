"""Grey JPEG whose one scan holds exactly its samples: decoders of this family only warn, and go on.

Where the last code of a sample ends, the scan has to end.
Source: ITU-T T.81, annexes B (markers), C and F (codes), H (lossless).
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from imagecodecs import jpeg8_decode

from extract.dicom.codestream import END_OF_IMAGE, FILL, FRAME_MARKERS, START_OF_SCAN, DamagedStreamError

BASELINE, EXTENDED, LOSSLESS = 0xC0, 0xC1, 0xC3
TABLES, RESTARTS = 0xC4, 0xDD
ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
IN_SCAN: Final = re.compile(rb"\xff+[^\x00\xff]")
BLOCK: Final = 64
STUFFED: Final = b"\xff\x00"  # 255 in a scan
OTHER_SYMBOL, MOST_SYMBOLS = 11, 256  # a value of 11 bits, in every kind of table
MORE: Final = bytes((0xA6, 0x59, 0x3C, 0xD2, 0x71)) * 64
NOWHERE: Final = 1 << 40  # behind every scan
END_OF_BLOCK: Final = 1 << 10  # more than any run, so that a block is over


@dataclass(frozen=True, slots=True)
class _Codes:
    """By the 16 bits from a code on: how many bits it takes with its value, and how many coefficients it tells of."""

    differences: list[int]
    coefficients: list[int]
    runs: list[int]


@dataclass
class _Header:
    """What stands before the scan. kind: the marker of its frame. tables: of codes, by class and number.

    scan_head: where the scan's own segment starts.
    """

    kind: int = 0
    interval: int = 0
    scan_head: int = 0
    tables: dict[int, bytes] = field(default_factory=dict)
    scan: bytes = b""


def decode_jpeg(stream: bytes, rows: int, columns: int) -> np.ndarray:
    """Decode a grey, sequential or lossless frame if its scan holds what it should.

    Every code is walked unless two more decodings show that the scan is exactly as long as its samples need, which is
    many times faster. Raises: DamagedStreamError when a code is unknown, when codes are missing or left over, or when
    it is another kind; what the decoder raises.
    """
    header = _Header()
    start = _read_header(stream, header)
    units = rows * columns if header.kind == LOSSLESS else -(-rows // 8) * -(-columns // 8)
    parts, end = _split(stream, start)
    if end != len(stream) - len(END_OF_IMAGE) or not stream.endswith(END_OF_IMAGE):
        raise DamagedStreamError("the scan does not end with the image")
    step = header.interval or units
    if len(parts) != -(-units // step):
        raise DamagedStreamError(f"{len(parts)} restart intervals, expected {-(-units // step)}")
    found: np.ndarray = jpeg8_decode(stream)
    if len(parts) > 1 or not _needs_all(stream, header, found):
        for number, (first, stop) in enumerate(parts):
            part = stream[first:stop].replace(STUFFED, b"\xff")
            _walk(part, header, min(step, units - number * step))
    return found


def _needs_all(stream: bytes, header: _Header, found: np.ndarray) -> bool:
    """Tell whether the samples stay with more bits behind the scan and more codes, and change with its last byte.

    For missing bits and unknown codes the decoder takes zeros, or what it now finds. False proves nothing: a changed
    last byte may round to the same samples.
    """
    scan, tables = stream[: -len(END_OF_IMAGE)], {number: _complete(table) for number, table in header.tables.items()}
    if not all(tables.values()):
        return False
    values = b"".join(bytes((number,)) + table for number, table in tables.items())
    segment = bytes((FILL, TABLES)) + (len(values) + 2).to_bytes(2, "big") + values
    more = scan[: header.scan_head] + segment + scan[header.scan_head :] + MORE + END_OF_IMAGE
    if not np.array_equal(jpeg8_decode(more), found):
        return False
    last = 2 if scan.endswith(STUFFED) else 1
    other = 0x00 if last == 2 else 0xFF ^ (scan[-1] or 0x01)
    return not np.array_equal(jpeg8_decode(scan[:-last] + bytes((other,)) + END_OF_IMAGE), found)


def _complete(table: bytes) -> bytes:
    """Give the codes of a table that no symbol has to one of a large value; b"" where they are too many."""
    counts, symbols = list(table[:16]), table[16:]
    longest = max(length for length in range(1, 17) if counts[length - 1])
    free = (1 << longest) - sum(count << longest - length for length, count in enumerate(counts, 1) if count)
    counts[longest - 1] += free - 1  # no code is of ones alone
    counts[longest:] = [1] * (16 - longest)
    added = free - 1 + 16 - longest
    if free < 1 or max(counts) > 0xFF or len(symbols) + added > MOST_SYMBOLS:
        return b""
    return bytes(counts) + symbols + bytes((OTHER_SYMBOL,)) * added


def _read_header(stream: bytes, header: _Header) -> int:
    """Read the segments up to the scan; tells where it starts."""
    position = 2
    while position + 4 <= len(stream) and stream[position] == FILL:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker == FILL or marker in ALONE:
            position += 1 if marker == FILL else 2
            continue
        segment, position = stream[position + 4 : position + 2 + length], position + 2 + length
        if marker == TABLES:
            _read_codes(segment, header)
        elif marker == RESTARTS:
            header.interval = int.from_bytes(segment[:2], "big")
        elif marker in FRAME_MARKERS:
            header.kind = _read_frame(marker, segment)
        elif marker == START_OF_SCAN:
            if not header.kind or len(segment) < 6 or segment[0] != 1:
                raise DamagedStreamError("expected one scan of one component")
            header.scan, header.scan_head = segment, position - 2 - length
            return position
    raise DamagedStreamError("it has no scan")


def _read_frame(marker: int, segment: bytes) -> int:
    if marker not in {BASELINE, EXTENDED, LOSSLESS}:
        raise DamagedStreamError(f"expected sequential or lossless JPEG, got frame marker FF{marker:02X}")
    if len(segment) < 9 or segment[5] != 1:
        raise DamagedStreamError("expected a frame of one component")
    return marker


def _read_codes(segment: bytes, header: _Header) -> None:
    position = 0
    while position + 17 <= len(segment):
        stop = position + 17 + sum(segment[position + 1 : position + 17])
        header.tables[segment[position]] = segment[position + 1 : stop]
        position = stop


@lru_cache(maxsize=16)
def _lay_out(table: bytes) -> _Codes:
    """Lay the codes of a table out over all values of 16 bits: 16 counts by length, then the symbols.

    A symbol's lower four bits say how many bits its value has, the upper four how many zeros it skips. Of differences,
    16 is the one of 32768, without further bits.
    """
    lengths = np.repeat(np.arange(1, 17), np.frombuffer(table[:16], np.uint8))
    symbols = np.frombuffer(table[16:], np.uint8).astype(int)
    spans = 1 << 16 - lengths
    if len(symbols) != len(lengths) or spans.sum() > 1 << 16:
        raise DamagedStreamError("a table of codes contradicts itself")
    unknown = [NOWHERE] * ((1 << 16) - int(spans.sum()))
    differences = lengths + np.where(symbols < 16, symbols, 0)
    skips = np.where((symbols & 15 == 0) & (symbols != 0xF0), END_OF_BLOCK, (symbols >> 4) + 1)
    laid = (np.repeat(one, spans).tolist() + unknown for one in (differences, lengths + (symbols & 15), skips))
    return _Codes(*laid)


def _split(stream: bytes, start: int) -> tuple[list[tuple[int, int]], int]:
    """Split a scan at its restart markers, which must count; tells where the first other marker is."""
    parts, stop = list[tuple[int, int]](), len(stream) - len(END_OF_IMAGE)
    if stream.count(b"\xff", start, stop) == stream.count(STUFFED, start, stop):  # many times faster than the next
        return [(start, stop)], stop
    for found in IN_SCAN.finditer(stream, start):
        parts.append((start, found.start()))
        marker, start = stream[found.end() - 1], found.end()
        if marker != 0xD0 + (len(parts) - 1) % 8:
            return parts, found.end() - 2
    return parts, -1


def _walk(part: bytes, header: _Header, units: int) -> None:
    selector, lossless, bits = header.scan[2], header.kind == LOSSLESS, 8 * len(part)
    try:
        numbers = (selector >> 4, selector >> 4 if lossless else 0x10 | selector & 15)
        first, rest = (_lay_out(header.tables[number]) for number in numbers)
    except KeyError as error:
        raise DamagedStreamError("a table of codes is missing") from error
    try:
        end = _walk_samples(part, first, units) if lossless else _walk_blocks(part, first, rest, units)
    except IndexError:
        end = bits + 1
    if not bits - 8 < end <= bits:
        raise DamagedStreamError(f"the codes of {units:,} units do not fill a scan of {bits:,} bits")


def _threes(part: bytes) -> list[int]:
    """Give the 24 bits from each byte on; zeros follow the last one, for a code that begins in it."""
    padded = np.frombuffer(part + bytes(8), np.uint8).astype(np.int32)
    found: list[int] = (padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]).tolist()
    return found


def _walk_samples(part: bytes, codes: _Codes, count: int) -> int:
    """Follow the codes of so many differences; gives the bit behind the last one."""
    threes, steps, position = _threes(part), codes.differences, 0
    for _ in range(count):
        position += steps[threes[position >> 3] >> 8 - (position & 7) & 0xFFFF]
    return position


def _walk_blocks(part: bytes, means: _Codes, others: _Codes, blocks: int) -> int:
    """Follow the codes of so many blocks: one of the mean, then those of the others until 64 are known."""
    threes, position, firsts = _threes(part), 0, means.differences
    steps, runs = others.coefficients, others.runs
    for _ in range(blocks):
        position += firsts[threes[position >> 3] >> 8 - (position & 7) & 0xFFFF]
        known = 1
        while known < BLOCK:
            window = threes[position >> 3] >> 8 - (position & 7) & 0xFFFF
            position += steps[window]
            known += runs[window]
        if BLOCK < known < END_OF_BLOCK:
            raise DamagedStreamError("a block has more coefficients than 64")
    return position
