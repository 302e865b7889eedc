"""Which features moved a head: exact SHAP values of trees and of a linear model, their check, and their summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.heads.contract import ARRAYS
from embeddings_store.errors import RunError

ADDITIVITY_TOLERANCE = 1e-6
CHECKED_ROWS = 1000

ROWS_AT_ONCE = 128
"""Of a linear head: few enough that their differences to the background stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class ShapValues:
    """SHAP values of a head, in units of its raw score (log-odds, or the softmax score of a class).

    values: [rows, outputs, features]; expected: the score without any feature; gap: the largest
    |expected + sum of values - raw score|. One output for two classes: the score of the second.
    """

    values: Float64[np.ndarray, "n outputs d"]
    expected: Float64[np.ndarray, " outputs"]
    gap: float


def explain_trees(booster: Any, x: Float64[np.ndarray, "n d"]) -> ShapValues:
    """Compute tree SHAP values (Lundberg et al., 2020), as LightGBM itself does, and check that they add up.

    Raises: RunError when the features don't fit the booster or the values don't add up to the raw score.
    """
    width = booster.num_feature()
    if x.shape[1] != width:
        raise RunError(f"the LightGBM model: expected {width} features, got {x.shape[1]}; is this the run's own store?")
    outputs = booster.num_model_per_iteration()
    parts = np.asarray(booster.predict(x, pred_contrib=True), np.float64).reshape(len(x), outputs, width + 1)
    return _checked(parts[:, :, :width], parts[0, :, width], np.asarray(booster.predict(x, raw_score=True), np.float64))


def explain_linear(
    coef: Float64[np.ndarray, "outputs d"],
    intercept: Float64[np.ndarray, " outputs"],
    background: Float64[np.ndarray, " d"],
    x: Float64[np.ndarray, "n d"],
) -> ShapValues:
    """Give coef * (x - background): the SHAP values of a linear model (Strumbelj and Kononenko 2014).

    background: mean of the rows that an absent feature is drawn from, independently of the others. That the values add
    up is algebra here, so it is checked on CHECKED_ROWS rows, spread evenly. The array lies output by output in memory.
    """
    values = np.empty((len(coef), *x.shape))
    away = np.empty((min(ROWS_AT_ONCE, len(x)), x.shape[1]))
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = x[start : start + ROWS_AT_ONCE]
        from_background = np.subtract(part, background, out=away[: len(part)])
        for weight, found in zip(coef, values, strict=True):
            np.multiply(from_background, weight, out=found[start : start + len(part)])
    every = max(1, len(x) // CHECKED_ROWS)
    score = x[::every] @ coef.T + intercept
    return _checked(values.transpose(1, 0, 2), coef @ background + intercept, score, every=every)


def _checked(
    values: Float64[np.ndarray, "n outputs d"],
    expected: Float64[np.ndarray, " outputs"],
    score: Float64[np.ndarray, "..."],
    *,
    every: int = 1,
) -> ShapValues:
    """Refuse values that do not add up to the model's own score. score: of every so many rows."""
    looked_at = values[::every]
    raw = score.reshape(looked_at.shape[:2])
    gap = float(np.abs(expected + looked_at.sum(axis=2) - raw).max())
    if not gap <= ADDITIVITY_TOLERANCE * max(1.0, float(np.abs(raw).max())):
        raise RunError(f"SHAP values do not add up to the model's score: they are {gap:.2e} apart; nothing is shown")
    return ShapValues(values, expected, gap)


def load_booster(folder: Path) -> Any:
    """Load the LightGBM text model of a run folder.

    Raises: RunError when there is not exactly one, or when it looks at principal components.
    """
    import lightgbm

    if (folder / "model" / ARRAYS).exists():
        raise RunError(
            f"{folder.name}: its trees split on principal components, so SHAP values cannot be given to single features"
        )

    found = sorted((folder / "model").glob("*.txt"))
    if len(found) != 1:
        raise RunError(f"{folder.name}: expected one LightGBM text model in model/, found {len(found)}")
    try:
        return lightgbm.Booster(model_file=found[0])
    except lightgbm.basic.LightGBMError as error:
        raise RunError(f"{folder.name}: model/{found[0].name} is no LightGBM model: {error}") from error


def group_shares(shap: ShapValues, names: Sequence[str]) -> dict[str, float]:
    """Give each group of dimensions its share of all mean |SHAP|; a group is what stands before the channel."""
    total = np.abs(shap.values).mean(axis=0).sum(axis=0)
    shares: dict[str, float] = {}
    for name, value in zip(names, total / max(float(total.sum()), 1e-300), strict=True):
        group = name.rpartition("/")[0]
        shares[group] = shares.get(group, 0.0) + float(value)
    return shares
