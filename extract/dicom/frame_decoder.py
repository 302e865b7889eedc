"""One compressed frame -> its samples, with the one decoder that was chosen for its transfer syntax."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from jpeg_ls import decode_pixel_data as decode_jpeg_ls
from openjpeg.utils import decode_pixel_data as decode_jpeg_2000
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from rle.rle import decode_frame as decode_rle

from extract.dicom.codestream import (
    PADDING,
    DamagedStreamError,
    check_jpeg_2000,
    check_jpeg_ls,
    check_rle,
    read_head,
    without_padding,
)
from extract.dicom.header import FOREIGN_ERRORS
from extract.dicom.jpeg_scan import decode_jpeg
from extract.errors import DicomError, UndecodablePixels

RLE: Final = {"RLE": RLELossless}
JPEG: Final = {
    "JPEG": JPEGBaseline8Bit,
    "JPEG extended": JPEGExtended12Bit,
    "JPEG lossless": JPEGLossless,
    "JPEG lossless SV1": JPEGLosslessSV1,
}
JPEG_LS: Final = {"JPEG-LS": JPEGLSLossless, "JPEG-LS near-lossless": JPEGLSNearLossless}
JPEG_2000: Final = {
    "JPEG 2000 lossless": JPEG2000Lossless,
    "JPEG 2000": JPEG2000,
    "HTJ2K lossless": HTJ2KLossless,
    "HTJ2K lossless RPCL": HTJ2KLosslessRPCL,
    "HTJ2K": HTJ2K,
}
COMPRESSED: Final = RLE | JPEG | JPEG_LS | JPEG_2000
"""Every compressed transfer syntax that is read, by a name for people."""

DECODER: Final = {
    **dict.fromkeys(RLE.values(), "pylibjpeg"),
    **dict.fromkeys(JPEG.values(), "imagecodecs"),
    **dict.fromkeys(JPEG_LS.values(), "pyjpegls"),
    **dict.fromkeys(JPEG_2000.values(), "pylibjpeg"),
}
"""What decodes a syntax. No other is asked if it refuses."""

MOST_WORDS: Final = 200
RLE_PADDING: Final = PADDING + b"\x80"  # a run of nothing
RLE_LONGEST: Final = 129  # bytes of a literal run, which may end with what looks like padding
RUST_PANIC: Final = "PanicException"
"""The RLE decoder panics on a segment longer than its frame: no Exception, and a class that no module exports."""


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What a decoder has to know beside the code stream; in plain types, so that it can go to another process."""

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the samples; signed 8-bit ones are widened, as Volume has no such type."""
        return np.dtype("i2" if self.signed else f"u{self.bits_allocated // 8}")


class FrameError(Exception):
    """A frame did not come. ``kind``: the class of the error row; the text goes on after "frame 7"."""

    def __init__(self, kind: type[DicomError], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@runtime_checkable
class FrameDecoder(Protocol):
    """Decodes code streams one after the other, as they are asked for."""

    def __call__(self, streams: Iterable[bytes], form: FrameFormat) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
        """Yield the samples of each stream. Raises: FrameError."""


def decoder_name(syntax: UID) -> str | None:
    """Name what decodes a compressed transfer syntax; None where nothing does."""
    return DECODER.get(syntax)


def decode_here(streams: Iterable[bytes], form: FrameFormat) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
    """Decode in this process, whose other threads wait meanwhile: most decoders hold the interpreter's lock."""
    return (decode_frame(stream, form) for stream in streams)


def decode_frame(stream: bytes, form: FrameFormat) -> Shaped[np.ndarray, "rows columns"]:
    """Decode one code stream.

    Raises: FrameError if the stream is not whole, or if its decoder refuses it or gives another size.
    """
    try:
        found = _decode(stream, form)
        frame: np.ndarray = found.astype(form.dtype, copy=False).reshape(form.rows, form.columns)
    except BaseException as error:
        if not isinstance(error, FOREIGN_ERRORS) and type(error).__name__ != RUST_PANIC:
            raise
        raise FrameError(UndecodablePixels, f"cannot be decoded ({_words(error)})") from error
    return frame


def _decode(stream: bytes, form: FrameFormat) -> np.ndarray:
    """Decode a stream that is whole, as far as that can be known. Raises: DamagedStreamError, FOREIGN_ERRORS."""
    syntax = UID(form.syntax)
    if syntax in RLE.values():
        return _decode_rle(stream, form)
    if syntax in JPEG.values():
        return decode_jpeg(without_padding(stream), form.rows, form.columns)
    if syntax in JPEG_LS.values():
        samples, _ = decode_jpeg_ls(check_jpeg_ls(stream))
    else:
        samples = decode_jpeg_2000(check_jpeg_2000(stream), version=2)
    head = read_head(stream)
    if head is None:
        raise DamagedStreamError("it says nothing of its samples")
    return np.frombuffer(samples, f"{'i' if head.signed else 'u'}{1 if head.bits <= 8 else 2}")


def _decode_rle(stream: bytes, form: FrameFormat) -> np.ndarray:
    """Decode segments that hold the samples of the frame, and none more but padding: the decoder is silent on those."""
    check_rle(stream, form.bits_allocated // 8)
    count, bits = form.rows * form.columns, form.bits_allocated
    samples = decode_rle(stream, count, bits, "<")
    if _rle_holds(stream, count + 1, bits):
        least = len(stream.rstrip(RLE_PADDING))
        shorter = (stream[:end] for end in range(least, min(least + RLE_LONGEST, len(stream))))
        if not any(_rle_holds(one, count, bits) and not _rle_holds(one, count + 1, bits) for one in shorter):
            raise DamagedStreamError(f"its segments hold more than {count:,} samples")
    return np.frombuffer(samples, f"{'i' if form.signed else 'u'}{bits // 8}")


def _rle_holds(stream: bytes, count: int, bits: int) -> bool:
    try:
        decode_rle(stream, count, bits, "<")
    except ValueError:
        return False
    return True


def _words(error: BaseException) -> str:
    """Give the decoder's own words, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:MOST_WORDS]
