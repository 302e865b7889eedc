"""Frames of uncompressed pixel data: a reshaped view of the bytes."""

import numpy as np
from jaxtyping import Int

from embeddings_store.schema import Note
from extract.dicom.header import Header
from extract.dicom.layout import SampleLayout, check_size
from extract.dicom.samples import align_samples
from extract.errors import ShortPixelData, UndecodablePixels, UnsupportedColour
from extract.volume import Voxels


class NativeFrames:
    """All frames that the bytes hold; count may exceed what the header declares, but not by constant bytes.

    Raises: ShortPixelData when declared frames are missing, TooLarge when far too many are there.
    """

    def __init__(self, header: Header, layout: SampleLayout, source: str) -> None:
        declared, stored = layout.frames * layout.frame_bytes, len(header.pixel_data)
        if stored < declared:
            raise ShortPixelData(f"{source}: {layout.frames} frames need {declared:,} pixel bytes, got {stored:,}")
        self.notes, self._stride, self._source = layout.notes, layout.frame_bytes, source
        self.count = stored // layout.frame_bytes
        self._header, self._layout = header, layout
        if not is_exact(layout, stored):
            self._look_at_rest(declared)
        check_size(layout, self.count, source)

    def _look_at_rest(self, declared: int) -> None:
        """Find what the bytes beyond the declared frames are: zeros behind each frame, padding, or more frames."""
        layout, value = self._layout, np.frombuffer(self._samples(), np.uint8)
        rest = value[declared:]
        constant = bool((rest == rest[0]).all())
        filling, left = divmod(len(rest), layout.frames)
        if filling and not left and len(rest) < layout.frame_bytes:
            stride = layout.frame_bytes + filling
            filled = not value.reshape(layout.frames, stride)[:, layout.frame_bytes :].any()
            if filled and constant:
                raise UndecodablePixels(
                    f"{self._source}: {len(rest):,} more bytes than the frames need may pad each frame, or the end"
                )
            if filled:
                self.count, self._stride, self.notes = layout.frames, stride, self.notes | Note.FRAMES_PADDED
                return
        if constant or self.count == layout.frames:
            self.count, self.notes = layout.frames, self.notes | Note.PADDED

    def read(self, numbers: Int[np.ndarray, "n"]) -> Voxels:
        """Give the frames of these numbers; a read-only view when all are asked for and nothing needs correcting.

        Adds to the notes.
        """
        layout = self._layout
        kind = f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
        order = "<" if self._header.little_endian else ">"
        value = self._samples()
        if self._stride != layout.frame_bytes:
            padded = np.frombuffer(value, np.uint8).reshape(self.count, self._stride)
            value = memoryview(np.ascontiguousarray(padded[:, : layout.frame_bytes]).tobytes())
        pixels = layout.rows * layout.columns * layout.samples
        samples = np.frombuffer(value, dtype=order + kind, count=self.count * pixels)
        planes = (layout.samples, layout.rows, layout.columns)
        shape = planes if layout.planar else (*planes[1:], planes[0])
        frames = samples.reshape(self.count, *(shape if layout.samples > 1 else planes[1:]))
        chosen = frames if len(numbers) == self.count else frames[numbers]
        if layout.samples > 1:
            chosen = self._grey(chosen)
        native = chosen.astype(kind, copy=False)
        aligned, note = align_samples(native, layout.bits_stored, layout.shift, self._source)
        self.notes |= note
        return aligned

    def _grey(self, frames: np.ndarray) -> np.ndarray:
        """Give one of three equal channels, or brightness without colour. Raises: UnsupportedColour."""
        first, *others = np.moveaxis(frames, 1 if self._layout.planar else -1, 0)
        if self._layout.photometric == "RGB":
            grey = all(np.array_equal(first, other) for other in others)
        else:
            grey = all(bool((other == 1 << (self._layout.bits_stored - 1)).all()) for other in others)
        if not grey:
            kind = "RGB whose channels differ" if self._layout.photometric == "RGB" else "YBR_FULL with colour"
            raise UnsupportedColour(f"{self._source}: expected one grey sample a pixel, got {kind}")
        return np.asarray(first)

    def _samples(self) -> memoryview:
        """Undo the byte order of 8-bit samples that were written as big-endian words (DICOM PS3.5, 8.1.1)."""
        value = self._header.pixel_data
        if not (self._header.byte_swapped and self._layout.bits_allocated == 8):
            return value
        return memoryview(np.frombuffer(value, dtype=np.uint16).byteswap().tobytes())


def is_exact(layout: SampleLayout, stored: int) -> bool:
    """Tell whether the bytes are the declared frames, made even, and nothing else."""
    declared = layout.frames * layout.frame_bytes
    return stored in {declared, declared + declared % 2}
