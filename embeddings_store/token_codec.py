"""How token grids lie in a store: as float16, or as int8 with a scale for each token, which takes half the room.

int8 is symmetric: a token's scale is its largest magnitude over 127, a stored number the nearest whole multiple of it.
Plain Zarr all the same: ``tokens/<layer>`` times ``token_scales/<layer>`` is the token.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16, Float64

from embeddings_store.errors import UsageError

LEVELS = 127
# A number is off by half a step at most; a step is 1/127 of its token's largest number. One in a hundred on top is for
# float16's own steps near zero, which are that small beside a token whose largest number is 1e-3 or more.
HALF_STEP = 1.01 / (2 * LEVELS)
FLOAT16_ROUNDING = 2.0**-11

Encode = Callable[[Float16[np.ndarray, "gd gh gw C"]], tuple[np.ndarray, ...]]
Decode = Callable[[Sequence[np.ndarray]], Float16[np.ndarray, "*grid C"]]


@dataclass(frozen=True, slots=True)
class TokenCodec:
    """A way to store one layer's grid: the folders of its arrays, their dtypes, and the way there and back.

    The first array has the grid's shape; the second, where there is one, has one number a token.
    """

    folders: tuple[str, ...]
    dtypes: tuple[str, ...]
    encode: Encode
    decode: Decode
    lossy: bool


def encode_int8(tokens: Float16[np.ndarray, "gd gh gw C"]) -> tuple[np.ndarray, ...]:
    """Return whole multiples (int8 [gd, gh, gw, C]) and their scales (float32 [gd, gh, gw]); zeros get the scale 0."""
    exact = tokens.astype(np.float32)
    largest = np.maximum(exact.max(-1), -exact.min(-1))
    scales = (largest / LEVELS).astype("<f4")
    exact /= np.where(scales > 0, scales, np.float32(1))[..., None]
    return np.rint(exact, out=exact).astype(np.int8), scales


def decode_int8(parts: Sequence[np.ndarray]) -> Float16[np.ndarray, "*grid C"]:
    """Multiply; the result is rounded to float16, which adds a twentieth of the error at most."""
    levels, scales = parts
    tokens: np.ndarray = np.multiply(levels, scales[..., None], dtype=np.float32).astype(np.float16)
    return tokens


CODECS = {
    "float16": TokenCodec(("tokens",), ("<f2",), lambda tokens: (tokens,), lambda parts: parts[0], lossy=False),
    "int8": TokenCodec(("tokens", "token_scales"), ("|i1", "<f4"), encode_int8, decode_int8, lossy=True),
}


def token_codec(name: str) -> TokenCodec:
    """Choose by the space's ``token_dtype``. Raises UsageError."""
    if name not in CODECS:
        raise UsageError(f"--token-dtype: expected one of {', '.join(CODECS)}, got {name!r}")
    return CODECS[name]


def cosine_errors(
    tokens: Float[np.ndarray, "*grid C"], stored: Float16[np.ndarray, "*grid C"]
) -> Float64[np.ndarray, " N"]:
    """Measure 1 - cosine of each token and its stored self; 0 where both are zero."""
    a, b = (grid.reshape(-1, grid.shape[-1]).astype(np.float64) for grid in (tokens, stored))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("nc,nc->n", a, b)
    cosines = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), (a == b).all(1))
    return np.asarray(np.clip(1.0 - cosines, 0.0, 2.0), dtype=np.float64)


def cosine_error_bound(width: int) -> float:
    """Bound 1 - cosine of a token of ``width`` channels and what int8 keeps of it.

    The largest number m of a token is met exactly, the others to m/254; the token is at least as long as m. So the
    sine of the angle is at most sqrt(width - 1) / 254, and float16's rounding. Real tokens lie far below: their largest
    number is a fraction of their length. Rounded up to two digits, as it is part of a space's name.
    """
    sine = min(1.0, math.sqrt(width - 1) * HALF_STEP + FLOAT16_ROUNDING)
    bound = 1.0 - math.sqrt(1.0 - sine**2)
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return round(math.ceil(bound / unit) * unit, 12)
