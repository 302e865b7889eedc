"""Frames of compressed pixel data: found among the items, and decoded one by one."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from pydicom.uid import UID

from extract.dicom.codestream import stream_size
from extract.dicom.frame_decoder import (
    FrameDecoder,
    FrameError,
    FrameFormat,
    decoder_name,
    missing_decoder,
)
from extract.dicom.header import Header
from extract.dicom.items import find_frames
from extract.dicom.layout import Layout, check_size
from extract.dicom.palette import PALETTE
from extract.errors import ShortPixelData, UndecodablePixels, UnsupportedSyntax
from extract.volume import Voxels


class EncapsulatedFrames:
    """All frames that the items hold; count may exceed what the header declares.

    Raises: UnsupportedSyntax, ShortPixelData, UndecodablePixels, TooLarge.
    """

    def __init__(self, header: Header, layout: Layout, source: str, decode: FrameDecoder) -> None:
        _require_decoder(header.syntax, source)
        found = find_frames(header, layout.frames, layout.bits_allocated // 8, source)
        self._frames, self.closed = found.fragments, found.closed
        self.count = len(self._frames)
        check_size(layout, self.count, source)
        self._decode, self._source, self._name = decode, source, header.syntax.name
        self._form = FrameFormat(
            syntax=str(header.syntax),
            rows=layout.rows,
            columns=layout.columns,
            bits_allocated=layout.bits_allocated,
            bits_stored=layout.bits_stored,
            signed=layout.signed,
            photometric="MONOCHROME2" if layout.photometric == PALETTE else layout.photometric,
        )
        if not self.closed:
            self._check_last()

    def read(self, numbers: Int[np.ndarray, "n"]) -> Voxels:
        """Decode the frames of these numbers, and no others.

        Raises: UndecodablePixels when the decoder refuses one, or gives another size than the header declares; what
        else the FrameDecoder's FrameError names.
        """
        form = self._form
        voxels = np.empty((len(numbers), form.rows, form.columns), dtype=form.dtype)
        frames = self._decode(self._streams(numbers), form)
        for slot, number in enumerate(numbers):
            try:
                voxels[slot] = next(frames)
            except FrameError as error:
                raise error.kind(
                    f"{self._source}: frame {number} {error}; expected {form.rows} x {form.columns} of {self._name} "
                    f"({form.syntax})"
                ) from error
        return voxels

    def _check_last(self) -> None:
        """Refuse items that nothing closes if the last frame, which may not be asked for, breaks off with them."""
        try:
            next(self._decode(iter([b"".join(self._frames[-1])]), self._form))
        except FrameError as error:
            raise ShortPixelData(
                f"{self._source}: the encapsulated PixelData breaks off in frame {self.count - 1}, which {error}"
            ) from error

    def _streams(self, numbers: Int[np.ndarray, "n"]) -> Iterator[bytes]:
        """Join the fragments of each frame, and refuse another size than the header's.

        A decoder would allocate what the stream claims, or never end.
        """
        expected = (self._form.rows, self._form.columns)
        for number in numbers:
            stream = b"".join(self._frames[number])
            if (size := stream_size(stream)) not in {None, expected}:
                raise UndecodablePixels(
                    f"{self._source}: frame {number} is a code stream of {size} rows and columns, expected {expected}"
                )
            yield stream


def _require_decoder(syntax: UID, source: str) -> None:
    if decoder_name(syntax) is None:
        raise UnsupportedSyntax(f"{source}: no decoder for the transfer syntax {syntax}")
    if missing := missing_decoder(syntax):
        raise UnsupportedSyntax(f"{source}: the decoder for {syntax} is not installed ({missing})")
