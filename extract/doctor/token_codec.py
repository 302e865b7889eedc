"""What int8 tokens would cost: the angle between this encoder's tokens and what the codec keeps of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from embeddings_store.token_codec import CODECS, cosine_error_bound, cosine_errors
from extract.doctor.report import Check, Report, Status

FIGURES = ("int8_cosine_error_mean", "int8_cosine_error_max")


def examine_token_codec(tokens: Sequence[Float[np.ndarray, "N C"]]) -> tuple[Report, None]:
    """Measure 1 - cosine of a few volumes' tokens and their stored selves, and judge the codec's bound."""
    if not tokens:
        return Report(absent=dict.fromkeys(FIGURES, "no volume could be read")), None
    exact = np.concatenate(list(tokens))
    with np.errstate(over="ignore"):
        kept = exact.astype(np.float16)
    if not np.isfinite(kept).all():
        return Report(absent=dict.fromkeys(FIGURES, "the tokens are not finite in float16")), None
    codec = CODECS["int8"]
    grid = kept[None, None]
    int8 = codec.decode(codec.encode(grid)).reshape(kept.shape)
    by_int8, by_float16 = (cosine_errors(exact, stored) for stored in (int8, kept))
    bound = cosine_error_bound(exact.shape[1])
    holds = bool(cosine_errors(kept, int8).max() <= bound)
    words = (
        f"1 - cosine of {len(exact):,} tokens: int8 {by_int8.mean():.1e} (largest {by_int8.max():.1e}, its bound "
        f"{bound:.1e}), float16 {by_float16.mean():.1e}; int8 takes half the room (--token-dtype int8)"
    )
    figures = dict(zip(FIGURES, (float(by_int8.mean()), float(by_int8.max())), strict=True))
    return Report((Check("token codec", Status.OK if holds else Status.FAIL, words),), figures), None
