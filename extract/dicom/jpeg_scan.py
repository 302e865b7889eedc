"""Whether the one scan of a grey JPEG holds exactly its samples: decoders of this family only warn, and go on.

Codes are not turned into samples here, only walked: where the last one ends, the scan has to end.
Source: ITU-T T.81, annexes B (markers), C and F (codes), H (lossless).
"""

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Int32, Int64

from extract.dicom.codestream import END_OF_IMAGE, FILL, FRAME_MARKERS, START_OF_SCAN, DamagedStreamError

Steps: TypeAlias = Int32[np.ndarray, "bits"]
"""For each bit of a scan, the first bit behind the code (with its value's bits) that begins there."""

BASELINE, EXTENDED, LOSSLESS = 0xC0, 0xC1, 0xC3
TABLES, RESTARTS = 0xC4, 0xDD
ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
IN_SCAN: Final = re.compile(rb"\xff+[^\x00\xff]")
BLOCK: Final = 64
LEAP: Final = 128
END_OF_BLOCK: Final = 1 << 10  # more than any run, so that a block is over


@dataclass
class _Header:
    """What stands before the scan. codes: by class and number, length and symbol of each 16 bits; 0: no such code."""

    frame: tuple[int, int] = (0, 0)
    interval: int = 0
    codes: dict[int, tuple[Int64[np.ndarray, "65536"], Int64[np.ndarray, "65536"]]] = field(default_factory=dict)
    scan: bytes = b""


def check_jpeg(stream: bytes, rows: int, columns: int, bits_allocated: int) -> None:
    """Walk every code of a grey, sequential or lossless frame.

    Raises: DamagedStreamError when a code is unknown, when codes are missing or left over, or when it is another kind.
    """
    header = _Header()
    rest = _read_header(stream, header)
    kind, bits = header.frame
    if bits > bits_allocated:
        raise DamagedStreamError(f"its samples have {bits} bits, more than the {bits_allocated} allocated")
    units = rows * columns if kind == LOSSLESS else -(-rows // 8) * -(-columns // 8)
    parts, end = _split(rest)
    if end != len(rest) - len(END_OF_IMAGE) or not rest.endswith(END_OF_IMAGE):
        raise DamagedStreamError("the scan does not end with the image")
    step = header.interval or units
    if len(parts) != -(-units // step):
        raise DamagedStreamError(f"{len(parts)} restart intervals, expected {-(-units // step)}")
    for number, part in enumerate(parts):
        _walk(part, header, min(step, units - number * step))


def _read_header(stream: bytes, header: _Header) -> bytes:
    """Read the segments up to the scan; gives what follows its head."""
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
            header.frame = _read_frame(marker, segment)
        elif marker == START_OF_SCAN:
            if header.frame == (0, 0) or len(segment) < 6 or segment[0] != 1:
                raise DamagedStreamError("expected one scan of one component")
            header.scan = segment
            return stream[position:]
    raise DamagedStreamError("it has no scan")


def _read_frame(marker: int, segment: bytes) -> tuple[int, int]:
    if marker not in {BASELINE, EXTENDED, LOSSLESS}:
        raise DamagedStreamError(f"expected sequential or lossless JPEG, got frame marker FF{marker:02X}")
    if len(segment) < 9 or segment[5] != 1:
        raise DamagedStreamError("expected a frame of one component")
    return marker, segment[0]


def _read_codes(segment: bytes, header: _Header) -> None:
    """Lay out each table of codes over all values of 16 bits."""
    position = 0
    while position + 17 <= len(segment):
        counts = np.frombuffer(segment, np.uint8, 16, position + 1).astype(int)
        symbols = np.frombuffer(segment[position + 17 : position + 17 + counts.sum()], np.uint8)
        lengths = np.repeat(np.arange(1, 17), counts)
        spans = 1 << 16 - lengths
        if len(symbols) != len(lengths) or spans.sum() > 1 << 16:
            raise DamagedStreamError("a table of codes contradicts itself")
        unused = (1 << 16) - int(spans.sum())
        length_of = np.append(np.repeat(lengths, spans), np.zeros(unused, int))
        symbol_of = np.append(np.repeat(symbols.astype(int), spans), np.zeros(unused, int))
        header.codes[segment[position]] = length_of, symbol_of
        position += 17 + int(counts.sum())


def _split(rest: bytes) -> tuple[list[bytes], int]:
    """Split a scan at its restart markers, which must count; tells where the first other marker is."""
    parts, start = list[bytes](), 0
    for found in IN_SCAN.finditer(rest):
        parts.append(rest[start : found.start()].replace(b"\xff\x00", b"\xff"))
        marker, start = rest[found.end() - 1], found.end()
        if marker != 0xD0 + (len(parts) - 1) % 8:
            return parts, found.end() - 2
    return parts, -1


def _walk(part: bytes, header: _Header, units: int) -> None:
    windows, bits = _windows(part), 8 * len(part)
    selector = header.scan[2]
    try:
        first = header.codes[selector >> 4]
        rest = first if header.frame[0] == LOSSLESS else header.codes[0x10 | selector & 15]
    except KeyError as error:
        raise DamagedStreamError("a table of codes is missing") from error
    steps, _ = _follow(windows, *first)
    if header.frame[0] == LOSSLESS:
        end = _leap(steps, units)
    else:
        end = _walk_blocks(steps.tolist(), *(found.tolist() for found in _follow(windows, *rest, run=True)), units)
    if not bits - 8 < end <= bits:
        raise DamagedStreamError(f"the codes of {units:,} units do not fill a scan of {bits:,} bits")


def _windows(part: bytes) -> Int32[np.ndarray, "bits"]:
    """Give the 16 bits from each bit on; zeros follow the last one."""
    padded = np.frombuffer(part + bytes(3), np.uint8).astype(np.int32)
    three = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    return (three[: len(part), None] >> np.arange(8, 0, -1, dtype=np.int32) & 0xFFFF).reshape(-1)


def _follow(windows: np.ndarray, lengths: np.ndarray, symbols: np.ndarray, *, run: bool = False) -> tuple[Steps, Steps]:
    """Give the next code's bit of each bit, and how many coefficients this one tells of; len(windows) + 32: nowhere.

    A symbol's lower four bits say how many bits its value has, the upper four how many zeros it skips. Of differences,
    16 is the one of 32768, without further bits.
    """
    values = symbols & 15 if run else np.where(symbols < 16, symbols, 0)
    nowhere = len(windows) + 32
    total = np.where(lengths > 0, lengths + values, nowhere).astype(np.int32)[windows]
    steps = np.full(nowhere + 1, nowhere, np.int32)
    steps[: len(windows)] = np.minimum(np.arange(len(windows), dtype=np.int32) + total, nowhere)
    skips = np.where((symbols & 15 == 0) & (symbols != 0xF0), END_OF_BLOCK, (symbols >> 4) + 1).astype(np.int32)
    runs = np.full(nowhere + 1, 2 * END_OF_BLOCK, np.int32)
    runs[: len(windows)] = skips[windows]
    return steps, runs


def _leap(steps: Steps, count: int) -> int:
    """Follow the codes of so many samples, which lie in a row, in leaps of LEAP."""
    leaps, position = steps, 0
    for _ in range(LEAP.bit_length() - 1):
        leaps = leaps[leaps]
    for _ in range(count // LEAP):
        position = int(leaps[position])
    for _ in range(count % LEAP):
        position = int(steps[position])
    return position


def _walk_blocks(first: list[int], rest: list[int], runs: list[int], blocks: int) -> int:
    """Follow the codes of so many blocks: one of the mean, then those of the others until 64 are known."""
    position = 0
    for _ in range(blocks):
        position, known = first[position], 1
        while known < BLOCK:
            known += runs[position]
            position = rest[position]
        if BLOCK < known < END_OF_BLOCK or known > 2 * END_OF_BLOCK:
            raise DamagedStreamError("a block has more coefficients than 64, or an unknown code")
    return position
