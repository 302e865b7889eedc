"""Frames of compressed pixel data: found among the items, and decoded one by one."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from pydicom.uid import UID

from embeddings_store.schema import Note
from extract.dicom.codestream import StreamHead, read_head
from extract.dicom.frame_decoder import (
    FrameDecoder,
    FrameError,
    FrameFormat,
    decoder_name,
)
from extract.dicom.header import Header
from extract.dicom.items import find_frames
from extract.dicom.layout import SampleLayout, check_size
from extract.dicom.samples import align_samples
from extract.errors import ShortPixelData, UndecodablePixels, UnsupportedSyntax
from extract.volume import Voxels


class EncapsulatedFrames:
    """All frames that the items hold; count may exceed what the header declares.

    Raises: UnsupportedSyntax, ShortPixelData, UndecodablePixels, TooLarge.
    """

    def __init__(self, header: Header, layout: SampleLayout, source: str, decode: FrameDecoder) -> None:
        _require_decoder(header.syntax, source)
        found = find_frames(header, layout.frames, layout.bits_allocated // 8, source)
        self._frames, self.closed = found.fragments, found.closed
        self.count = len(self._frames)
        check_size(layout, self.count, source)
        self._decode, self._source, self._name = decode, source, header.syntax.name
        self._layout, self.notes = layout, Note.NONE if self.closed else Note.NOT_CLOSED
        self._form = FrameFormat(
            syntax=str(header.syntax),
            rows=layout.rows,
            columns=layout.columns,
            bits_allocated=layout.bits_allocated,
            signed=layout.signed,
        )
        if not self.closed:
            self._check_last()

    def read(self, numbers: Int[np.ndarray, "n"]) -> Voxels:
        """Decode the frames of these numbers, and no others; adds to the notes.

        Raises: UndecodablePixels when the decoder refuses one, or gives another size than the header declares; what
        else the FrameDecoder's FrameError names.
        """
        form, heads = self._form, set[StreamHead | None]()
        voxels = np.empty((len(numbers), form.rows, form.columns), dtype=form.dtype)
        frames = self._decode(self._streams(numbers, heads), form)
        for slot, number in enumerate(numbers):
            try:
                voxels[slot] = next(frames)
            except FrameError as error:
                raise error.kind(
                    f"{self._source}: frame {number} {error}; expected {form.rows} x {form.columns} of {self._name} "
                    f"({form.syntax})"
                ) from error
        return self._align(voxels, heads)

    def _align(self, voxels: Voxels, heads: set[StreamHead | None]) -> Voxels:
        """Believe the header of the samples; a stream of as many bits as are stored has none below them."""
        layout = self._layout
        bits = max(head.bits if head else layout.bits_allocated for head in heads)
        shift = layout.shift if layout.shift + layout.bits_stored <= bits else 0
        aligned, note = align_samples(voxels, layout.bits_stored, shift, self._source)
        unsigned = layout.signed and any(head and head.signed is False for head in heads)
        self.notes |= note | (Note.SAMPLES_DISAGREE if unsigned else Note.NONE)
        return aligned

    def _check_last(self) -> None:
        """Refuse items that nothing closes if the last frame, which may not be asked for, breaks off with them."""
        try:
            next(self._decode(iter([b"".join(self._frames[-1])]), self._form))
        except FrameError as error:
            raise ShortPixelData(
                f"{self._source}: the encapsulated PixelData breaks off in frame {self.count - 1}, which {error}"
            ) from error

    def _streams(self, numbers: Int[np.ndarray, "n"], heads: set[StreamHead | None]) -> Iterator[bytes]:
        """Join the fragments of each frame, and refuse another size than the header's.

        A decoder would allocate what the stream claims, or never end.
        """
        for number in numbers:
            stream = b"".join(self._frames[number])
            head = read_head(stream)
            if head:
                self._check_head(head, int(number))
            heads.add(head)
            yield stream

    def _check_head(self, head: StreamHead, number: int) -> None:
        form, size = self._form, (head.rows, head.columns)
        words = f"{self._source}: frame {number} is a code stream of"
        if size != (form.rows, form.columns):
            raise UndecodablePixels(f"{words} {size} rows and columns, expected {(form.rows, form.columns)}")
        if head.bits > form.bits_allocated:
            raise UndecodablePixels(f"{words} {head.bits} bits, more than the {form.bits_allocated} allocated")
        if head.signed and not form.signed:
            raise UndecodablePixels(f"{words} signed samples, which PixelRepresentation says are unsigned")


def _require_decoder(syntax: UID, source: str) -> None:
    if decoder_name(syntax) is None:
        raise UnsupportedSyntax(f"{source}: no decoder for the transfer syntax {syntax}")
