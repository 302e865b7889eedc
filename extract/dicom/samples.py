"""Where the samples lie in their words: BitsStored, HighBit, and what the bits outside them hold."""

import numpy as np
from jaxtyping import Shaped

from embeddings_store.schema import Note
from extract.errors import UndecodablePixels

Frames = Shaped[np.ndarray, "frames rows columns"]


def align_samples(frames: Frames, bits_stored: int, shift: int, source: str) -> tuple[Frames, Note]:
    """Shift samples down to the lowest bit; clear, or sign-extend over, the bits above BitsStored (PS3.5, 8.1.1).

    Signed 8-bit samples are widened, as Volume has no such type. Bits above BitsStored that were set are noted.
    Raises: UndecodablePixels where those bits hold the samples, and the lowest bits nothing.
    """
    note = Note.HIGH_BIT if shift else Note.NONE
    shifted = np.right_shift(frames, shift) if shift else frames
    if 8 * frames.dtype.itemsize > bits_stored and not _are_within(shifted, bits_stored):
        kept = _drop_above(shifted, bits_stored)
        if shift == 0 and _holds_others(shifted, kept, bits_stored):
            _refuse_misplaced(shifted, bits_stored, source)
            note |= Note.SAMPLES_DISAGREE
        shifted = kept
    return (shifted.astype(np.int16) if shifted.dtype == np.int8 else shifted), note


def _are_within(frames: Frames, bits_stored: int) -> bool:
    signed = frames.dtype.kind == "i"
    least, most = (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1) if signed else (0, (1 << bits_stored) - 1)
    return bool(frames.max() <= most and (not signed or frames.min() >= least))


def _drop_above(frames: Frames, bits_stored: int) -> Frames:
    unused = 8 * frames.dtype.itemsize - bits_stored
    kept: Frames = np.right_shift(np.left_shift(frames, unused), unused)
    return kept


def _holds_others(frames: Frames, kept: Frames, bits_stored: int) -> bool:
    """Tell whether bits above BitsStored are more than zeros, which stand for the sign in some files."""
    above = np.right_shift(frames.view(f"u{frames.dtype.itemsize}"), bits_stored)
    return bool(((frames != kept) & (above != 0)).any())


def _refuse_misplaced(frames: Frames, bits_stored: int, source: str) -> None:
    lowest = (1 << 8 * frames.dtype.itemsize - bits_stored) - 1
    if not int(np.bitwise_or.reduce(frames, axis=None)) & lowest:
        raise UndecodablePixels(
            f"{source}: the samples lie above the {bits_stored} bits stored, and the lowest bits are all zero: "
            "expected them where HighBit says"
        )
