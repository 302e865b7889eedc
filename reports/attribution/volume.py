"""What one volume's tokens gave to a model's evidence: by region, by token where that is exact, with its checks."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from classify.features.tokens import mirrored
from classify.fitting.model import FittedModel
from classify.heads.attentive import AttentiveHead
from classify.heads.linear import LinearHead
from embeddings_store.token_pooling import coarsen_tokens
from reports.anatomy.regions import Regions
from reports.attribution.faithfulness import Curves, faithfulness_curves, map_agreement
from reports.attribution.heat_map import HeatMap
from reports.attribution.scoring import HeadScore, new_scorer
from reports.attribution.shapley import shapley_values
from reports.attribution.tokens import TokenShares, linear_shares

ADDITIVITY_TOLERANCE = 1e-6

RegionsOf = Callable[[tuple[int, int, int]], Regions]
"""Divides a token grid."""


@dataclass(frozen=True)
class RegionShares:
    """Exact Shapley values of regions for the evidence of each class, and their checks.

    share [r, k]; base [k]: the evidence with every token replaced; base + shares = evidence of all tokens, to gap.
    curves: deletion and insertion by region for the explained class. agreement: rank correlation of the shares with
    those of each control, None where a map is flat; near 1 would mean that the map does not depend on what was learned.
    """

    regions: Regions
    share: Float64[np.ndarray, "r k"]
    base: Float64[np.ndarray, " k"]
    gap: float
    curves: Curves
    agreement: dict[str, float | None]


@dataclass(frozen=True)
class Looked:
    """Where an attentive head looked: shortcuts, beside the exact shares of regions.

    attention: mean over its heads, 1 over all tokens. gradient: of the target's evidence, times the standardised token
    (how far it lies from the mean of training): first order only, so it does not add up. agreement: rank correlation
    of each, summed by region, with the exact shares.
    """

    attention: Float64[np.ndarray, "gd gh gw"]
    gradient: Float64[np.ndarray, "gd gh gw"]
    agreement: dict[str, float | None]


@dataclass(frozen=True)
class VolumeEvidence:
    """The explanation of one volume. target: the class that is explained.

    tokens: exact shares of single tokens, where the head is linear in the mean of tokens. looked: for an attentive
    head, which reads tokens itself, its attention and its gradients. rounding: the largest difference between the
    evidence of the stored tokens (float16) and of the stored vector (float32).
    """

    target: int
    evidence: Float64[np.ndarray, " k"]
    regions: RegionShares
    bands: RegionShares
    tokens: TokenShares | None
    looked: Looked | None
    rounding: float

    @property
    def en_face(self) -> Regions:
        """Give the regions of the retina's plane."""
        return self.regions.regions

    @property
    def map(self) -> Float64[np.ndarray, "gd gh gw"]:
        """Evidence for the target by token: the exact share, or the region's share spread evenly over its tokens."""
        return self.maps[0].values

    @property
    def maps(self) -> tuple[HeatMap, ...]:
        """Give what can be painted, the most telling first; an attentive head has its attention and gradients too."""
        if self.tokens is not None:
            return (HeatMap("shares", "exact share of each token", self.tokens.share[..., self.target]),)
        label = self.regions.regions.label
        count = np.bincount(label.ravel(), minlength=len(self.regions.share))
        spread = np.asarray((self.regions.share[:, self.target] / np.maximum(count, 1))[label])
        regions = HeatMap("regions", "exact share of each region, spread over its tokens", spread)
        if self.looked is None:
            return (regions,)
        gradient = HeatMap("gradient", "gradient times token", self.looked.gradient)
        attention = HeatMap("attention", "attention", self.looked.attention, in_evidence=False)
        return gradient, attention, regions


@dataclass(frozen=True)
class Controls:
    """Models that must give another map: fitted on permuted labels, and fed with shuffled channels."""

    permuted_labels: FittedModel
    order: Int64[np.ndarray, " D"] = field(repr=False)


def explain_volume(
    model: FittedModel,
    tokens: Shaped[np.ndarray, "gd gh gw C"],
    stored: Float64[np.ndarray, " D"] | None,
    protocol: str,
    *,
    classes: int,
    target: int,
    en_face: RegionsOf,
    bands: RegionsOf,
    controls: Controls,
    seed: int,
    left: bool = False,
) -> VolumeEvidence:
    """Explain a model's evidence for one class on one volume, from its stored tokens alone.

    tokens: the full stored grid of the model's layer. stored: the volume's raw features as the store keeps them, None
    for a head that reads tokens. left: a left eye, which some models see mirrored; maps show it as it is.
    """
    flipped = left and model.features.mirror
    grid = model.features.token_grid
    read = (tokens if grid is None else coarsen_tokens(tokens, grid)).astype(np.float64)
    size = (read.shape[0], read.shape[1], read.shape[2])
    scores = {
        "model": HeadScore(model, protocol, classes, mirrored=flipped),
        "permuted labels": HeadScore(controls.permuted_labels, protocol, classes, mirrored=flipped),
        "shuffled channels": HeadScore(model, protocol, classes, controls.order, flipped),
    }
    parts = [_explain_regions(scores, read, regions(size), target, seed) for regions in (en_face, bands)]
    whole = parts[0].base + parts[0].share.sum(axis=0)
    by_vector = whole if stored is None else scores["model"](stored[None, :])[0]
    rounding = float(np.abs(by_vector - whole).max())
    shares, looked = _token_shares(model, read, protocol), _look(model, read, protocol, parts[0], target, flipped)
    return VolumeEvidence(target, by_vector, parts[0], parts[1], shares, looked, rounding)


def _look(
    model: FittedModel,
    tokens: Shaped[np.ndarray, "gd gh gw C"],
    protocol: str,
    regions: RegionShares,
    target: int,
    flipped: bool,
) -> Looked | None:
    if not isinstance(model.head, AttentiveHead):
        return None
    grid = (tokens.shape[0], tokens.shape[1], tokens.shape[2])

    def turn(rows: np.ndarray) -> np.ndarray:
        return np.asarray(mirrored(rows, grid)) if flipped else rows

    row = turn(tokens.reshape(1, -1)).astype(np.float32)
    x = model.standardiser.transform(row, np.array([protocol]))
    by_class = model.head.gradients(x)[0]
    others = np.delete(np.arange(len(by_class)), target)
    of_evidence = by_class[target] - by_class[others].mean(axis=0)
    gradient = turn((of_evidence * x.reshape(of_evidence.shape)).sum(axis=1)[None])[0]
    attention = turn(model.head.attention(x)[0].mean(axis=0)[None])[0]
    names, label = regions.regions.names, regions.regions.label.ravel()
    held = np.array([name not in regions.regions.empty for name in names])
    agreement = {
        name: map_agreement(np.bincount(label, values, len(names))[held], regions.share[held, target])
        for name, values in (("attention", attention), ("gradient", gradient))
    }
    return Looked(attention.reshape(grid), gradient.reshape(grid), agreement)


def _explain_regions(
    scores: dict[str, HeadScore],
    tokens: Shaped[np.ndarray, "gd gh gw C"],
    regions: Regions,
    target: int,
    seed: int,
) -> RegionShares:
    count = len(regions.names)
    own_scorer = new_scorer(scores["model"], tokens, regions.label, count)
    scorers = {name: own_scorer.asking(score) for name, score in scores.items()}  # about the same replaced volumes
    found = {name: shapley_values(count, scorer) for name, scorer in scorers.items()}
    share, base = found["model"]
    everything = scorers["model"](np.ones((1, count), dtype=bool))[0]
    gap = float(np.abs(base + share.sum(axis=0) - everything).max())
    held = np.array([name not in regions.empty for name in regions.names])
    own = share[held, target]
    return RegionShares(
        regions,
        share,
        base,
        gap,
        faithfulness_curves(
            own, lambda kept: scorers["model"](_widen(kept, held))[:, target], rng=np.random.default_rng(seed)
        ),
        {name: map_agreement(own, found[name][0][held, target]) for name in scores if name != "model"},
    )


def _widen(kept: Shaped[np.ndarray, "m held"], held: Shaped[np.ndarray, " r"]) -> Shaped[np.ndarray, "m r"]:
    """Speak of all regions again; those without a token may be called kept."""
    whole = np.ones((len(kept), len(held)), dtype=bool)
    whole[:, held] = kept
    return whole


def _token_shares(model: FittedModel, tokens: Shaped[np.ndarray, "gd gh gw C"], protocol: str) -> TokenShares | None:
    if not isinstance(model.head, LinearHead) or model.features.pools != ("mean",):
        return None
    mean, scale = model.standardiser.of(protocol)
    return linear_shares(tokens, model.head.coef_, model.head.intercept_, mean, scale)
