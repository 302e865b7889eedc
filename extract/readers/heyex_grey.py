"""Heidelberg reflectivities as HEYEX shows them: 8 bits, as its DICOM and picture exports hold them.

Source: eyepy 0.21 (MIT), from_vol_intensity and from_e2e_intensity, whose authors fitted the curve to such exports.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from extract.errors import DamagedScan

EMPTY: Final = float(np.finfo(np.float32).max)
"""What a .vol holds where no tissue was imaged."""

E2E_EMPTY: Final = 1.99
"""Beyond this an .e2e holds nothing."""


def to_grey(values: Float32[np.ndarray, "..."], empty_from: float, source: str) -> UInt8[np.ndarray, "..."]:
    """Compress reflectivities of 0 to 1; what is empty becomes 0. Raises: DamagedScan for what is no reflectivity."""
    empty = values >= np.float32(empty_from)
    if not np.isfinite(values).all() or values.min() < 0:
        raise DamagedScan(f"{source}: expected reflectivities of 0 and more, got other numbers")
    shown = np.where(values <= 1, (np.log(values + np.float32(2.44e-4)) + np.float32(8.3)) / np.float32(8.285), values)
    grey = np.asarray(np.rint(np.clip(shown, 0, 1) * 255), dtype=np.uint8)
    grey[empty] = 0
    return grey


def unpack_float16(words: UInt16[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Unpack an .e2e's own floats: no sign, 6 bits of exponent, then a mantissa whose lowest bit weighs most."""
    return np.asarray(_FLOATS[words])


def _floats() -> Float32[np.ndarray, "65536"]:
    words = np.arange(1 << 16)
    mantissa = sum((words >> bit & 1) / 2.0 ** (bit + 1) for bit in range(10))
    return np.asarray((1 + mantissa) * 2.0 ** ((words >> 10) - 63), dtype=np.float32)


_FLOATS: Final = _floats()
