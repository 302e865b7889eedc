"""What a compressed frame says of its own size, read before any decoder believes it."""

import struct

JPEG_2000 = b"\xff\x4f\xff\x51"  # SOC, then SIZ
JPEG = b"\xff\xd8"
JPEG_LS_FRAME = 0xF7
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), JPEG_LS_FRAME}) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA
FILL = 0xFF


def stream_size(stream: bytes) -> tuple[int, int] | None:
    """Give rows and columns of a JPEG, JPEG-LS or JPEG 2000 code stream; None where it has no such header.

    Source: ITU-T T.800 A.5.1 (SIZ), T.81 B.2.2 (SOFn), T.87 C.2.2 (SOF55).
    """
    if stream.startswith(JPEG_2000) and len(stream) >= 24:
        right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
        return bottom - top, right - left
    return _jpeg_size(stream) if stream.startswith(JPEG) else None


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    position = len(JPEG)
    while position + 9 <= len(stream) and stream[position] == FILL:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker in FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", stream, position + 5)
            return rows, columns
        if marker == START_OF_SCAN:
            return None
        position += 1 if marker == FILL else 2 + length
    return None
