"""What a compressed frame says of itself, read before any decoder believes it, and whether it is whole.

A decoder that conceals damage gives invented rows, so the structure of each stream is walked here first.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

JPEG_2000: Final = b"\xff\x4f\xff\x51"  # SOC, then SIZ
JPEG: Final = b"\xff\xd8"
END_OF_IMAGE: Final = b"\xff\xd9"  # closes a JPEG, JPEG-LS and JPEG 2000 code stream
PADDING: Final = b"\x00\xff"  # both occur
JPEG_LS_FRAME: Final = 0xF7
FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0), JPEG_LS_FRAME}) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN: Final = 0xDA
FILL: Final = 0xFF
COD, CAP, SOT, SOD = 0x52, 0x50, b"\xff\x90", b"\xff\x93"
RLE_HEADER_BYTES: Final = 64
BYPASS: Final = 1  # a code-block style of JPEG 2000: raw bits, which may be zeros, among the coded ones
IN_PACKETS: Final = re.compile(rb"\xff[\x90\x93-\xff]")  # no packet holds such a pair (T.800, B.10.1 and D.4.1)
SPARE_ZEROS: Final = 8  # of coded data in a row: one in 2**64 by chance


class DamagedStreamError(ValueError):
    """A code stream is not whole, or contradicts itself or the header."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What a code stream says of its samples. signed: None in JPEG and JPEG-LS, which leave that to the header."""

    rows: int
    columns: int
    bits: int
    signed: bool | None = None


def read_head(stream: bytes) -> StreamHead | None:
    """Read the head of a JPEG, JPEG-LS or JPEG 2000 code stream; None where it has none.

    Source: ITU-T T.800 A.5.1 (SIZ), T.81 B.2.2 (SOFn), T.87 C.2.2 (SOF55).
    """
    if stream.startswith(JPEG_2000) and len(stream) > 42:
        right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
        return StreamHead(bottom - top, right - left, (stream[42] & 127) + 1, stream[42] > 127)
    return _read_jpeg_head(stream) if stream.startswith(JPEG) else None


def _read_jpeg_head(stream: bytes) -> StreamHead | None:
    position = len(JPEG)
    while position + 9 <= len(stream) and stream[position] == FILL:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker in FRAME_MARKERS:
            bits, rows, columns = struct.unpack_from(">BHH", stream, position + 4)
            return StreamHead(rows, columns, bits)
        if marker == START_OF_SCAN:
            return None
        position += 1 if marker == FILL else 2 + length
    return None


def begins_frame(fragment: bytes | memoryview, bytes_allocated: int) -> bool:
    """Tell whether a frame can begin with this fragment: a code stream's first marker, or an RLE header."""
    head = bytes(fragment[:RLE_HEADER_BYTES])
    rle = len(head) == RLE_HEADER_BYTES and struct.unpack_from("<2L", head) == (bytes_allocated, RLE_HEADER_BYTES)
    return head.startswith((JPEG + b"\xff", JPEG_2000)) or rle


def without_padding(stream: bytes) -> bytes:
    """Drop what fills up an item behind the end of a JPEG, JPEG-LS or JPEG 2000 code stream.

    Raises: DamagedStreamError when no end of image is there.
    """
    whole = stream.rstrip(PADDING)
    if not whole.endswith(END_OF_IMAGE):
        raise DamagedStreamError("it does not end with an end of image marker")
    return whole


def check_jpeg_ls(stream: bytes) -> bytes:
    """Give the stream without padding; its decoder refuses every other damage that can be known.

    Raises: DamagedStreamError when it ends before, or goes on behind, its first end of image.
    """
    whole, scan = without_padding(stream), stream.find(bytes((FILL, START_OF_SCAN)))
    if stream.find(END_OF_IMAGE, max(scan, 0)) != len(whole) - len(END_OF_IMAGE):
        raise DamagedStreamError("bytes follow the end of image")
    return whole


def check_rle(stream: bytes, bytes_allocated: int) -> bytes:
    """Give the stream if its header names one segment a byte of a sample; its decoder refuses any of another length.

    Source: DICOM PS3.5, annex G. Raises: DamagedStreamError.
    """
    if len(stream) < RLE_HEADER_BYTES:
        raise DamagedStreamError("the RLE header breaks off")
    count, *offsets = struct.unpack_from("<16L", stream)
    if count != bytes_allocated or offsets[0] != RLE_HEADER_BYTES or any(offsets[count:]):
        raise DamagedStreamError(f"expected an RLE header of {bytes_allocated} segments, got {count}")
    return stream


def check_jpeg_2000(stream: bytes) -> bytes:
    """Give the stream without padding; all tiles are there, each tile-part of the length that it declares.

    Long runs of zeros in coded data are damage too: its decoder would make smooth rows of them.
    Source: ITU-T T.800, annex A. Raises: DamagedStreamError.
    """
    if not stream.startswith(JPEG_2000):
        raise DamagedStreamError("expected a JPEG 2000 code stream")
    first = stream.find(SOT)
    if first < 0:
        raise DamagedStreamError("it has no tile")
    return _check_tiles(stream, first)


def _check_tiles(stream: bytes, position: int) -> bytes:
    most_zeros, seen = _most_zeros(stream), set[int]()
    while stream[position : position + 2] == SOT and position + 12 <= len(stream):
        tile, length = struct.unpack_from(">HL", stream, position + 4)
        stop = position + length if length else len(without_padding(stream)) - 2
        data = stream.find(SOD, position, stop)
        if data < 0 or stop > len(stream):
            raise DamagedStreamError("a tile-part breaks off")
        packets = stream[data + 2 : stop]
        if IN_PACKETS.search(packets):
            raise DamagedStreamError("a marker lies inside a tile-part")
        if most_zeros and bytes(most_zeros) in packets:
            raise DamagedStreamError(f"a tile-part holds {most_zeros} zeros in a row")
        seen.add(tile)
        position = stop
    tiles = _tiles(stream)  # which may claim far more than any memory holds
    if len(seen) != tiles or max(seen) >= tiles:
        raise DamagedStreamError(f"{len(seen)} of {tiles} tiles are there")
    if stream[position:].rstrip(PADDING) not in {b"", END_OF_IMAGE}:
        raise DamagedStreamError("the last tile-part does not end where the code stream does")
    return stream[:position] + END_OF_IMAGE


def _tiles(stream: bytes) -> int:
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8L", stream, 8)
    if not width or not height:
        raise DamagedStreamError("its tiles have no size")
    return int(-((left - right) // width) * -((top - bottom) // height))


def _most_zeros(stream: bytes) -> int:
    """Give how many zeros in a row are damage; 0 where there is no such number.

    A packet without data is one zero byte, so as many as there are packets may stand in a row. HTJ2K has raw bits,
    which may be zeros, and a decoder that knows of this damage itself.
    """
    position, styles = 4 - len(SOT), dict[int, bytes]()
    while stream[position : position + 2] != SOT and position + 4 <= len(stream):
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        styles[stream[position + 1]] = stream[position + 4 : position + 2 + length]
        position += 2 + length
    coding = styles.get(COD, b"")
    if len(coding) < 10 or CAP in styles or coding[8] & BYPASS:
        return 0
    return _most_packets(stream, coding) + SPARE_ZEROS


def _most_packets(stream: bytes, coding: bytes) -> int:
    """Count the packets of a tile, or a few more; ``coding`` is the value of its COD segment (T.800, A.6.1)."""
    width, height = struct.unpack_from(">2L", stream, 24)
    layers, levels = int.from_bytes(coding[2:4], "big"), coding[5]
    precincts = coding[10 : 11 + levels] if coding[0] & 1 else b"\xff" * (levels + 1)
    sizes = ((width >> levels - r, height >> levels - r, code & 15, code >> 4) for r, code in enumerate(precincts))
    return int(layers * sum(((across >> x) + 1) * ((down >> y) + 1) for across, down, x, y in sizes))
