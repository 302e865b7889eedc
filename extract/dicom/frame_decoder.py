"""One compressed frame -> its samples, with the one decoder that was chosen for its transfer syntax."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from imagecodecs import jpeg8_decode
from jaxtyping import Shaped
from pydicom.pixels.decoders.base import get_decoder
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

from extract.dicom.codestream import check_jpeg_2000, check_jpeg_ls, check_rle, without_padding
from extract.dicom.header import FOREIGN_ERRORS, quiet_pydicom
from extract.dicom.items import DELIMITER, ITEM
from extract.dicom.jpeg_scan import check_jpeg
from extract.dicom.native import drop_unused_bits
from extract.errors import DicomError, UndecodablePixels

JPEG: Final = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1})
JPEG_2000: Final = frozenset({JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K})
JPEG_LS: Final = frozenset({JPEGLSLossless, JPEGLSNearLossless})

PLUGIN: Final = {
    RLELossless: "pylibjpeg",
    **dict.fromkeys(JPEG_LS, "pyjpegls"),
    **dict.fromkeys(JPEG_2000, "pylibjpeg"),
}
"""pydicom's names of the decoders; that of JPEG is none of pydicom's. No other is asked if one refuses."""

MOST_WORDS: Final = 200
RUST_PANIC: Final = "PanicException"
"""The RLE decoder panics on a segment longer than its frame: no Exception, and a class that no module exports."""


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What a decoder has to know beside the code stream; in plain types, so that it can go to another process."""

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str

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
    return "imagecodecs" if syntax in JPEG else PLUGIN.get(syntax)


def missing_decoder(syntax: UID) -> str:
    """Say what the decoder of a syntax lacks; "" if it is installed."""
    if syntax in JPEG:
        return ""
    with quiet_pydicom():
        decoder = get_decoder(syntax)
    return "" if PLUGIN[syntax] in decoder.available_plugins else "; ".join(decoder.missing_dependencies)


def decode_here(streams: Iterable[bytes], form: FrameFormat) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
    """Decode in this process, whose other threads wait meanwhile: most decoders hold the interpreter's lock."""
    return (decode_frame(stream, form) for stream in streams)


def decode_frame(stream: bytes, form: FrameFormat) -> Shaped[np.ndarray, "rows columns"]:
    """Decode one code stream, and clear the bits above BitsStored, whose content is undefined (DICOM PS3.5, 8.1.1).

    Raises: FrameError if the stream is not whole, or if its decoder refuses it or gives another size.
    """
    try:
        found = _decode(check_stream(stream, form), form)
        frame: np.ndarray = found.astype(form.dtype, copy=False).reshape(form.rows, form.columns)
    except BaseException as error:
        if not isinstance(error, FOREIGN_ERRORS) and type(error).__name__ != RUST_PANIC:
            raise
        raise FrameError(UndecodablePixels, f"cannot be decoded ({_words(error)})") from error
    return drop_unused_bits(frame, form.bits_stored)


def check_stream(stream: bytes, form: FrameFormat) -> bytes:
    """Give a code stream that is whole, as far as that can be known, without padding. Raises: DamagedStreamError."""
    syntax = UID(form.syntax)
    if syntax in JPEG:
        whole = without_padding(stream)
        check_jpeg(whole, form.rows, form.columns, form.bits_allocated)
        return whole
    if syntax in JPEG_LS:
        return check_jpeg_ls(stream)
    if syntax in JPEG_2000:
        return check_jpeg_2000(stream, form.bits_allocated)
    return check_rle(stream, form.bits_allocated // 8)


def _decode(stream: bytes, form: FrameFormat) -> np.ndarray:
    syntax = UID(form.syntax)
    if syntax in JPEG:
        return jpeg8_decode(stream)
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": form.photometric,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.signed),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    with quiet_pydicom():
        decoder = get_decoder(syntax)
    found, _ = decoder.as_array(
        _wrap(stream), index=0, validate=False, decoding_plugin=PLUGIN[syntax], raw=True, **options
    )
    return found


def _words(error: BaseException) -> str:
    """Give the decoder's own words, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:MOST_WORDS]


def _wrap(frame: bytes) -> bytes:
    """Make encapsulated pixel data of one frame: an empty offset table, one item of even length, the delimiter."""
    padded = frame + b"\x00" * (len(frame) % 2)
    item, delimiter = (struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in (ITEM, DELIMITER))
    return item + b"\x00" * 4 + item + struct.pack("<L", len(padded)) + padded + delimiter + b"\x00" * 4
