"""One compressed frame -> its samples, with pydicom's decoder of the transfer syntax."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from extract.dicom.header import FOREIGN_ERRORS, quiet_pydicom
from extract.dicom.items import DELIMITER, ITEM
from extract.errors import DicomError, UndecodablePixels

PLUGIN = {RLELossless: "pylibjpeg"}
"""pydicom tries its own RLE decoder first, in pure Python; everything else is decoded in pydicom's order."""

RUST_PANIC = "PanicException"
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


def decode_here(streams: Iterable[bytes], form: FrameFormat) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
    """Decode in this process, whose other threads wait meanwhile: most decoders hold the interpreter's lock."""
    return (decode_frame(stream, form) for stream in streams)


def decode_frame(stream: bytes, form: FrameFormat) -> Shaped[np.ndarray, "rows columns"]:
    """Decode one code stream. Raises: FrameError when the decoder refuses it, or gives another size."""
    with quiet_pydicom():
        decoder = get_decoder(form.syntax)
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
    try:
        plugin = PLUGIN.get(decoder.UID, "")
        found, _ = decoder.as_array(_wrap(stream), index=0, validate=False, decoding_plugin=plugin, raw=True, **options)
        frame: np.ndarray = found.astype(form.dtype, copy=False).reshape(form.rows, form.columns)
    except BaseException as error:
        if not isinstance(error, FOREIGN_ERRORS) and type(error).__name__ != RUST_PANIC:
            raise
        raise FrameError(UndecodablePixels, "cannot be decoded") from error
    return frame


def _wrap(frame: bytes) -> bytes:
    """Make encapsulated pixel data of one frame: an empty offset table, one item of even length, the delimiter."""
    padded = frame + b"\x00" * (len(frame) % 2)
    item, delimiter = (struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in (ITEM, DELIMITER))
    return item + b"\x00" * 4 + item + struct.pack("<L", len(padded)) + padded + delimiter + b"\x00" * 4
