"""A fitted model as a function of one volume's tokens: what it would have said had some of them been unremarkable.

A token that is taken away is replaced by the reference: the mean vector of the training volumes of the same protocol.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from classify.features.tokens import mirrored
from classify.fitting.aggregate import SMALLEST_PROBABILITY
from classify.fitting.model import FittedModel
from reports.attribution.pooling import RegionSums, region_sums, require_replaceable
from reports.attribution.tokens import evidence

ROWS_AT_ONCE_BYTES = 64_000_000

Tokens = Shaped[np.ndarray, "gd gh gw C"]
Kept = Bool[np.ndarray, "m r"]


@runtime_checkable
class Scorer(Protocol):
    """Gives the evidence for each class of volumes in which only some regions are kept."""

    def __call__(self, kept: Kept) -> Float64[np.ndarray, "m k"]:
        """Score m volumes. kept: which regions hold their own tokens."""

    def asking(self, score: "HeadScore") -> "Scorer":
        """Ask another head about the same volumes."""


@dataclass(frozen=True)
class HeadScore:
    """Evidence for each class by a model, of raw feature rows of one protocol.

    order: the control by model randomisation feeds the channels to the head in another order; None: as they are.
    mirrored: the rows are tokens of an eye that the model sees mirrored.
    """

    model: FittedModel
    protocol: str
    classes: int
    order: Int64[np.ndarray, " D"] | None = None
    mirrored: bool = False

    def __call__(self, raw: Float64[np.ndarray, "m D"]) -> Float64[np.ndarray, "m k"]:
        """Standardise, ask the head, and take the evidence."""
        protocol, grid = np.full(len(raw), self.protocol), self.model.features.token_grid
        raw = mirrored(raw, grid) if self.mirrored and grid else raw
        x = self.model.standardiser.transform(raw.astype(np.float32), protocol)
        x = x if self.order is None else np.ascontiguousarray(x[:, self.order])
        probability = np.full((len(raw), self.classes), SMALLEST_PROBABILITY)
        known = self.model.head.predict_proba(x)
        probability[:, self.model.head.classes_] = np.clip(known, SMALLEST_PROBABILITY, None)
        return evidence(np.log(probability))


@dataclass(frozen=True)
class PooledScorer:
    """Scores volumes by their pooled vectors, which follow from sums by region."""

    score: HeadScore
    sums: RegionSums

    def __call__(self, kept: Kept) -> Float64[np.ndarray, "m k"]:
        """Pool again, and score."""
        return self.score(self.sums.pooled(kept, self.score.model.features.pools))

    def asking(self, score: HeadScore) -> Scorer:
        """Ask another head about the same volumes."""
        return replace(self, score=score)


@dataclass(frozen=True)
class TokenScorer:
    """Scores volumes by a head that reads the tokens themselves."""

    score: HeadScore
    tokens: Float64[np.ndarray, "T C"]
    label: Int64[np.ndarray, " T"]
    reference: Float64[np.ndarray, " C"]

    def __call__(self, kept: Kept) -> Float64[np.ndarray, "m k"]:
        """Replace tokens, and score a few volumes at a time."""
        step = max(1, ROWS_AT_ONCE_BYTES // (8 * self.tokens.size))
        return np.vstack([self._some(kept[start : start + step]) for start in range(0, len(kept), step)])

    def asking(self, score: HeadScore) -> Scorer:
        """Ask another head about the same volumes."""
        return replace(self, score=score)

    def _some(self, kept: Kept) -> Float64[np.ndarray, "m k"]:
        volumes = np.where(kept[:, self.label, None], self.tokens, self.reference)
        return self.score(volumes.reshape(len(kept), -1))


def new_scorer(score: HeadScore, tokens: Tokens, label: Int64[np.ndarray, "gd gh gw"], regions: int) -> Scorer:
    """Make the scorer of one volume. tokens: on the grid that the model reads; label: the region of each.

    Raises: UsageError where the model pools in a way that cannot be done by region.
    """
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64, copy=False)
    reference = reference_token(score.model, score.protocol, flat)
    if score.model.features.token_grid is not None:
        return TokenScorer(score, flat, label.ravel(), reference)
    require_replaceable(score.model.features.pools)
    return PooledScorer(score, region_sums(flat, label.ravel(), regions, reference))


def reference_token(model: FittedModel, protocol: str, tokens: Float64[np.ndarray, "T C"]) -> Float64[np.ndarray, " C"]:
    """Give the token that stands for "nothing remarkable": the training mean, or the volume's own without one."""
    features, channels = model.features, tokens.shape[1]
    if features.token_grid is None and "mean" not in features.pools:
        return np.asarray(tokens.mean(axis=0))
    mean, _ = model.standardiser.of(protocol)
    first = 0 if features.token_grid is not None else features.pools.index("mean") * channels
    return np.asarray(mean[first : first + channels])
