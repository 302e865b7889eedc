"""The shape of a few embeddings: how many directions they use, and how far they are from random twins'."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from extract.device.backend import Backend
from extract.doctor.report import Check, Report, Status, measured
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_twin
from extract.errors import DeviceError

TWIN_SEEDS = (1_000_003, 1_000_033)
"""Of the twins' weights: seeds that nobody gives to random:tiny or random:base, so that no encoder is its own twin."""

LIKE_RANDOM = 0.05
"""An encoder whose linear CKA with the twins is not this much below the twins' with each other is like random weights.

How much two random encoders agree depends on the volumes: 0.97 to 0.99 on phantoms and real Spectralis stacks, 0.43 to
0.49 on noise. A third random encoder stays within 0.017 of that (6 seeds of random:tiny, all triples, each of the four
kinds of volumes), and one whose weights are 8 times larger is 0.2 to 0.5 below it.
"""

COLLAPSED_VOLUMES = 1.5
"""Effective rank of the volumes' vectors below which all volumes lie on nearly one line (random:tiny: 2.3 of 3)."""

COLLAPSED_TOKENS = 0.05
"""Share of the width below which the tokens' effective rank is a collapse (random:tiny: about half of the width)."""

BLOCK_ROWS = 4096
FEWEST_FOR_RANK = 3
FEWEST_FOR_TOKENS = 2


def examine_geometry(
    encoder: Encoder,
    backend: Backend,
    images: Sequence[Float[np.ndarray, "1 D H W"]],
    tokens: Sequence[Float[np.ndarray, "N C"]],
) -> tuple[Report, None]:
    """Judge the tokens of a few preprocessed volumes, and compare them with those of two random-initialised twins.

    Raises DeviceError where the numbers are not finite.
    """
    if len(images) < FEWEST_FOR_TOKENS:
        reason = f"it needs at least {FEWEST_FOR_TOKENS} volumes, got {len(images)}"
        return Report(absent=dict.fromkeys(("effective_rank", "effective_rank_tokens", "twin_cka"), reason)), None
    ours = np.stack(tokens)
    if not np.isfinite(ours).all():
        raise DeviceError(f"{encoder.source}: expected finite tokens, got NaN or infinity; use --precision fp32")
    if encoder.architecture.kind.preset is None:
        reason = "an ONNX file has no random twin"
        return _judge_rank(ours) + Report(absent={"twin_cka": reason}), None
    twins = [_tokens_of_twin(encoder, backend, images, seed) for seed in TWIN_SEEDS]
    return _judge_rank(ours) + _judge_twins(content_of(ours), content_of(twins[0]), content_of(twins[1])), None


def effective_rank(rows: Float[np.ndarray, "n d"]) -> float:
    """Give exp(entropy of the singular values, normalised to sum 1) of the centred rows; 0 where all rows are equal.

    Between 1 (one direction) and min(n - 1, d) (all directions alike). Source: O. Roy and M. Vetterli, "The effective
    rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    centred = rows - rows.mean(0, dtype=np.float64)
    small = centred if len(rows) >= rows.shape[1] else centred.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(_products(small, small)), 0, None))
    if values.max() <= np.finfo(np.float32).eps * np.abs(rows).max() * len(rows):
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def linear_cka(ours: Float[np.ndarray, "n c"], theirs: Float[np.ndarray, "n k"]) -> float | None:
    """Give |Y'X|^2 / (|X'X| |Y'Y|) (Frobenius) of rows that are centred already; None where a side is all zero.

    0: unrelated, 1: equal up to rotation and scale. Source: S. Kornblith et al., "Similarity of neural network
    representations revisited", ICML 2019.
    """
    own = np.linalg.norm(_products(ours, ours)) * np.linalg.norm(_products(theirs, theirs))
    return float(np.linalg.norm(_products(ours, theirs)) ** 2 / own) if own else None


def content_of(tokens: Float[np.ndarray, "n N C"]) -> Float[np.ndarray, "m C"]:
    """Take each position's mean over the volumes away: position alone makes any two encoders look alike."""
    position = tokens.mean(0, dtype=np.float64).astype(tokens.dtype)  # exact where all volumes say the same
    flat: np.ndarray = (tokens - position).reshape(-1, tokens.shape[2])
    return flat


def _tokens_of_twin(
    encoder: Encoder, backend: Backend, images: Sequence[Float[np.ndarray, "1 D H W"]], seed: int
) -> Float[np.ndarray, "n N C"]:
    runner = BatchEncoder(random_twin(encoder.architecture, seed, "random twin"), backend)
    return np.stack([runner.tokens(image[None])[0] for image in images])


def _judge_rank(tokens: Float[np.ndarray, "n N C"]) -> Report:
    volumes, _, width = tokens.shape
    of_tokens = effective_rank(content_of(tokens))
    of_volumes = effective_rank(tokens.mean(1)) if volumes >= FEWEST_FOR_RANK else None
    words = f"tokens use {of_tokens:.1f} of {width} directions"
    if of_volumes is not None:
        words += f", the mean vectors of {volumes} volumes {of_volumes:.2f} of at most {min(volumes - 1, width)}"
    collapsed = of_tokens < COLLAPSED_TOKENS * width or (of_volumes is not None and of_volumes < COLLAPSED_VOLUMES)
    verdict = "the embeddings have collapsed: volumes look nearly alike to this encoder" if collapsed else "no collapse"
    check = Check("effective rank", Status.WARN if collapsed else Status.OK, f"{words}: {verdict}")
    figures = {"effective_rank": of_volumes, "effective_rank_tokens": of_tokens}
    few = f"it needs at least {FEWEST_FOR_RANK} volumes, got {volumes}"
    return Report((check,)) + measured(figures, {"effective_rank": few})


def _judge_twins(
    ours: Float[np.ndarray, "m C"], first: Float[np.ndarray, "m C"], second: Float[np.ndarray, "m C"]
) -> Report:
    """Compare with two random-initialised twins, and these with each other, on the same volumes."""
    alike = [linear_cka(ours, twin) for twin in (first, second)]
    between = linear_cka(first, second)
    cka = None if None in alike else sum(one for one in alike if one is not None) / len(alike)
    if cka is None or between is None:
        words = "the volumes cannot be told apart, so there is nothing to compare with random twins"
        report = Report((Check("random twin", Status.WARN, words),))
        return report + measured({"twin_cka": None}, {"twin_cka": "the volumes have equal tokens"})
    like_random = cka > between - LIKE_RANDOM
    words = f"linear CKA with random-initialised twins {cka:.3f}, of the twins with each other {between:.3f}: "
    words += (
        "this encoder says what untrained weights say; expect no more of it than of them"
        if like_random
        else "it sees other things than untrained weights do"
    )
    status = Status.WARN if like_random else Status.OK
    return Report((Check("random twin", status, words),)) + measured({"twin_cka": cka, "twin_cka_random": between})


def _products(ours: Float[np.ndarray, "n c"], theirs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "c k"]:
    """Give X'Y in float64, some rows at a time, so that no float64 copy of all tokens is held."""
    total = np.zeros((ours.shape[1], theirs.shape[1]))
    for start in range(0, len(ours), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        total += ours[block].astype(np.float64).T @ theirs[block].astype(np.float64)
    return total
