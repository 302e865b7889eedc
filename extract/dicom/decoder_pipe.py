"""What a process and its decoder say to each other through pipes: one frame there, its samples back, and so on."""

import json
import struct
from dataclasses import asdict
from io import RawIOBase
from typing import Final

import numpy as np
from jaxtyping import Shaped

from extract.dicom.frame_decoder import FrameFormat

READY: Final = b"\x01"
DECODED: Final = b"\x02"
REFUSED: Final = b"\x03"
_SIZE: Final = struct.Struct("<L")  # of the reason of a refusal
_SIZES: Final = struct.Struct("<LL")  # of the format as JSON, and of the code stream


def send_stream(pipe: RawIOBase, stream: bytes, form: FrameFormat) -> None:
    """Ask for a frame."""
    words = json.dumps(asdict(form)).encode()
    send(pipe, _SIZES.pack(len(words), len(stream)) + words)
    send(pipe, stream)


def receive_stream(pipe: RawIOBase) -> tuple[bytes, FrameFormat] | None:
    """Take what was asked for; None when nobody asks any more."""
    try:
        words_size, stream_size = _SIZES.unpack(receive(pipe, _SIZES.size))
        words = receive(pipe, words_size)
        return bytes(receive(pipe, stream_size)), FrameFormat(**json.loads(words))
    except EOFError:
        return None


def receive_frame(pipe: RawIOBase, form: FrameFormat) -> Shaped[np.ndarray, "rows columns"]:
    """Take the samples of a frame that was decoded. Raises: EOFError."""
    frame = np.empty((form.rows, form.columns), form.dtype)
    _fill(pipe, frame.reshape(-1).view(np.uint8).data)
    return frame


def send_words(pipe: RawIOBase, words: str) -> None:
    """Say why a frame was refused."""
    data = words.encode(errors="replace")
    send(pipe, _SIZE.pack(len(data)) + data)


def receive_words(pipe: RawIOBase) -> str:
    """Take the reason of a refusal. Raises: EOFError."""
    (size,) = _SIZE.unpack(receive(pipe, _SIZE.size))
    return receive(pipe, size).decode()


def send(pipe: RawIOBase, data: bytes | memoryview) -> None:
    """Write all of it: an unbuffered pipe takes as much as fits."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) or 0 :]


def receive(pipe: RawIOBase, size: int) -> bytearray:
    """Read so many bytes. Raises: EOFError when the other side is gone."""
    data = bytearray(size)
    _fill(pipe, memoryview(data))
    return data


def _fill(pipe: RawIOBase, target: memoryview) -> None:
    while target:
        count = pipe.readinto(target)
        if not count:
            raise EOFError
        target = target[count:]
