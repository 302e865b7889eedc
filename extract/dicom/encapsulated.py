"""Frames of compressed pixel data: decoded one by one, with pydicom's decoder of the transfer syntax."""

import struct
from typing import Any

import numpy as np
from jaxtyping import Int
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from extract.dicom.codestream import stream_size
from extract.dicom.header import FOREIGN_ERRORS, Header, quiet_pydicom
from extract.dicom.items import DELIMITER, ITEM, find_frames
from extract.dicom.layout import Layout, check_size
from extract.errors import UndecodablePixels, UnsupportedSyntax
from extract.volume import Voxels

PLUGIN = {RLELossless: "pylibjpeg"}
"""pydicom tries its own RLE decoder first, in pure Python; everything else is decoded in pydicom's order."""

RUST_PANIC = "PanicException"
"""The RLE decoder panics on a segment longer than its frame: no Exception, and a class that no module exports."""


class EncapsulatedFrames:
    """All frames that the items hold; count may exceed what the header declares.

    Raises: UnsupportedSyntax, ShortPixelData, UndecodablePixels, TooLarge.
    """

    def __init__(self, header: Header, layout: Layout, source: str) -> None:
        self._decoder = _find_decoder(header, source)
        self._frames = find_frames(header, layout.frames, source)
        self.count = len(self._frames)
        check_size(layout, self.count, source)
        self._plugin = PLUGIN.get(header.syntax, "")
        self._layout, self._source = layout, source

    def read(self, numbers: Int[np.ndarray, "n"]) -> Voxels:
        """Decode the frames of these numbers, and no others.

        Raises: UndecodablePixels when the decoder refuses one, or gives another size than the header declares.
        """
        layout = self._layout
        kind = "i2" if layout.signed else f"u{layout.bits_allocated // 8}"
        voxels = np.empty((len(numbers), layout.rows, layout.columns), dtype=kind)
        for slot, number in enumerate(numbers):
            voxels[slot] = self._decode(int(number))
        return voxels

    def _decode(self, number: int) -> np.ndarray:
        options: dict[str, Any] = {
            "rows": self._layout.rows,
            "columns": self._layout.columns,
            "samples_per_pixel": 1,
            "photometric_interpretation": self._layout.photometric,
            "bits_allocated": self._layout.bits_allocated,
            "bits_stored": self._layout.bits_stored,
            "pixel_representation": int(self._layout.signed),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
        }
        stream = b"".join(self._frames[number])
        self._check_stream(stream, number)
        try:
            frame, _ = self._decoder.as_array(
                _wrap(stream), index=0, validate=False, decoding_plugin=self._plugin, raw=True, **options
            )
        except BaseException as error:
            if not isinstance(error, FOREIGN_ERRORS) and type(error).__name__ != RUST_PANIC:
                raise
            raise UndecodablePixels(
                f"{self._source}: frame {number} cannot be decoded; expected {self._layout.rows} x "
                f"{self._layout.columns} of {self._decoder.UID.name} ({self._decoder.UID})"
            ) from error
        array: np.ndarray = frame
        return array

    def _check_stream(self, stream: bytes, number: int) -> None:
        """Refuse another size than the header's: a decoder would allocate what the stream claims, or never end."""
        size, expected = stream_size(stream), (self._layout.rows, self._layout.columns)
        if size not in {None, expected}:
            raise UndecodablePixels(
                f"{self._source}: frame {number} is a code stream of {size} rows and columns, expected {expected}"
            )


def _find_decoder(header: Header, source: str) -> Any:
    try:
        with quiet_pydicom():
            decoder = get_decoder(header.syntax)
    except NotImplementedError as error:
        raise UnsupportedSyntax(f"{source}: no decoder for the transfer syntax {header.syntax}") from error
    if not decoder.is_available:
        missing = "; ".join(decoder.missing_dependencies)
        raise UnsupportedSyntax(f"{source}: the decoder for {header.syntax} is not installed ({missing})")
    return decoder


def _wrap(frame: bytes) -> bytes:
    """Make encapsulated pixel data of one frame: an empty offset table, one item of even length, the delimiter."""
    padded = frame + b"\x00" * (len(frame) % 2)
    tags = (ITEM, DELIMITER)
    item, delimiter = (struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    return item + b"\x00" * 4 + item + struct.pack("<L", len(padded)) + padded + delimiter + b"\x00" * 4
