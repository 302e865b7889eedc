"""Grey scans that are stored as indices into a palette whose colours are all greys (DICOM PS3.3, C.7.6.3.1.5)."""

from typing import Final

import numpy as np
from jaxtyping import UInt8, UInt16
from pydicom import Dataset

from extract.dicom.header import COLOURS, FOREIGN_ERRORS
from extract.errors import UnsupportedColour

PALETTE: Final = "PALETTE COLOR"
MOST_ENTRIES: Final = 1 << 16  # which a descriptor writes as 0


class GreyPalette:
    """The grey of each index. Raises: UnsupportedColour for a palette of colours, and for one that is not whole."""

    def __init__(self, elements: Dataset, source: str, *, little_endian: bool) -> None:
        try:
            (count, first, bits), table = _grey_table(elements)
            self._greys, self._first = _unpack(table, count or MOST_ENTRIES, bits, little_endian=little_endian), first
        except FOREIGN_ERRORS as error:
            raise UnsupportedColour(
                f"{source}: expected one grey sample a pixel, got a palette that is not one of greys, or not whole"
            ) from error

    def apply(
        self, indices: UInt8[np.ndarray, "n rows columns"] | UInt16[np.ndarray, "n rows columns"]
    ) -> UInt8[np.ndarray, "n rows columns"] | UInt16[np.ndarray, "n rows columns"]:
        """Give the grey of every pixel; indices below or above the table take its ends."""
        return self._greys[np.clip(indices.astype(np.int64) - self._first, 0, len(self._greys) - 1)]


def _grey_table(elements: Dataset) -> tuple[tuple[int, int, int], bytes]:
    """Give the descriptor and the table that all three colours share. Raises: one of FOREIGN_ERRORS."""
    (descriptor, *others), (table, *tables) = (
        [elements[f"{colour}PaletteColorLookupTable{part}"].value for colour in COLOURS]
        for part in ("Descriptor", "Data")
    )
    if any(list(other) != list(descriptor) for other in others) or any(other != table for other in tables):
        raise ValueError("the colours differ")
    count, first, bits = (int(number) for number in descriptor)
    return (count, first, bits), bytes(table)


def _unpack(
    table: bytes, count: int, bits: int, *, little_endian: bool
) -> UInt8[np.ndarray, " entries"] | UInt16[np.ndarray, " entries"]:
    """Give the greys: two entries a word where a table of 8 bits is that short, else one. Raises: ValueError."""
    if bits == 8 and len(table) < 2 * count:
        return np.frombuffer(table, np.uint8, count)
    return np.frombuffer(table, "<u2" if little_endian else ">u2", count).astype({8: np.uint8, 16: np.uint16}[bits])
