"""Frames of uncompressed pixel data: a reshaped view of the bytes."""

import numpy as np
from jaxtyping import Int

from extract.dicom.header import Header
from extract.dicom.layout import Layout, check_size
from extract.errors import ShortPixelData
from extract.volume import Voxels


class NativeFrames:
    """All frames that the bytes hold; count may exceed what the header declares.

    Raises: ShortPixelData when declared frames are missing, TooLarge when far too many are there.
    """

    def __init__(self, header: Header, layout: Layout, source: str) -> None:
        declared, stored = layout.frames * layout.frame_bytes, len(header.pixel_data)
        if stored < declared:
            raise ShortPixelData(f"{source}: {layout.frames} frames need {declared:,} pixel bytes, got {stored:,}")
        self.count = stored // layout.frame_bytes
        check_size(layout, self.count, source)
        self._header, self._layout = header, layout

    def read(self, numbers: Int[np.ndarray, "n"]) -> Voxels:
        """Give the frames of these numbers; a read-only view when all are asked for and nothing needs correcting."""
        layout = self._layout
        kind = f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
        order = "<" if self._header.little_endian else ">"
        samples = np.frombuffer(self._samples(), dtype=order + kind, count=self.count * layout.rows * layout.columns)
        frames = samples.reshape(self.count, layout.rows, layout.columns)
        chosen = frames if len(numbers) == self.count else frames[numbers]
        return drop_unused_bits(chosen.astype(kind, copy=False), layout.bits_stored)

    def _samples(self) -> memoryview:
        """Undo the byte order of 8-bit samples that were written as big-endian words (DICOM PS3.5, 8.1.1)."""
        value = self._header.pixel_data
        if not (self._header.byte_swapped and self._layout.bits_allocated == 8):
            return value
        return memoryview(np.frombuffer(value, dtype=np.uint16).byteswap().tobytes())


def drop_unused_bits(frames: np.ndarray, bits_stored: int) -> np.ndarray:
    """Clear, or sign-extend over, the bits above BitsStored, whose content is undefined (DICOM PS3.5, 8.1.1)."""
    unused = 8 * frames.dtype.itemsize - bits_stored
    if unused:
        frames = np.right_shift(np.left_shift(frames, unused), unused)
    return frames.astype(np.int16) if frames.dtype == np.int8 else frames
