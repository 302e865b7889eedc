"""Exact SHAP values of small trees, all rows at once: a table look-up a path in place of a walk a row.

Path-dependent tree SHAP (Lundberg et al. 2020, Nature Machine Intelligence 2:56), as LightGBM's pred_contrib gives it.
A leaf of value v is reached by conditions; feature f of them holds (o_f = 1) or not (0), and z_f is the share of
training rows that meets it. Its SHAP value is v (o_f - z_f) times the integral over t in 0..1 of the product of
z_g (1 - t) + o_g t over the other features g: the weights of all coalitions (Yu et al. 2022, NeurIPS, linear
TreeShap), and a polynomial that Gauss-Legendre integrates exactly. A path of D conditions has 2^D outcomes, so the
values are tabulated (Yang 2021, arXiv:2109.09847) and each row only looks up its outcome.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

DEEPEST = 12
"""Conditions of a path up to which its outcomes are tabulated."""

ROWS_AT_ONCE = 8192
"""So that a column stays in the processor's cache while the trees pass by."""


@dataclass(frozen=True, slots=True)
class Condition:
    """x[feature] <= threshold, and the share of the rows before it that meets it."""

    feature: int
    threshold: float
    share: float


@dataclass(frozen=True, slots=True)
class Step:
    """A split with a leaf below it: what was asked up to here, and the SHAP values of every outcome.

    table[f, code]: of features[f]; bit i of code says whether conditions[i] was met.
    """

    output: int
    conditions: tuple[Condition, ...]
    features: tuple[int, ...]
    table: Float64[np.ndarray, "features outcomes"]


@dataclass(frozen=True, slots=True)
class Forest:
    """The tabulated trees of a booster; expected: the score of each output without any feature."""

    steps: tuple[Step, ...]
    expected: Float64[np.ndarray, " outputs"]


def read_forest(model: Mapping[str, Any]) -> Forest | None:
    """Tabulate LightGBM's dump_model; None where a tree is too deep, or not of plain numerical splits."""
    outputs, trees = int(model["num_tree_per_iteration"]), model["tree_info"]
    if model.get("average_output") or not all(_is_plain(tree["tree_structure"], 0) for tree in trees):
        return None
    steps: list[Step] = []
    expected = np.zeros(outputs)
    for number, tree in enumerate(trees):
        expected[number % outputs] += _expected(tree["tree_structure"])
        steps += _steps(tree["tree_structure"], number % outputs, (), ())
    return Forest(tuple(steps), expected)


def forest_shap(forest: Forest, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n outputs d"]:
    """Give the SHAP value of every feature of every row; the array lies feature by feature in memory."""
    values = np.zeros((len(forest.expected), x.shape[1], len(x)))
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        columns = np.ascontiguousarray(x[rows].T)
        _add_block(forest, columns, values[:, :, rows])
    return values.transpose(2, 0, 1)


def _add_block(
    forest: Forest, columns: Float64[np.ndarray, "d rows"], values: Float64[np.ndarray, "outputs d rows"]
) -> None:
    codes: dict[tuple[Condition, ...], Int64[np.ndarray, " rows"]] = {}
    for step in forest.steps:
        code = _code(step.conditions, columns, codes)
        for feature, looked_up in zip(step.features, step.table, strict=True):
            values[step.output, feature] += looked_up[code]


def _code(
    conditions: tuple[Condition, ...],
    columns: Float64[np.ndarray, "d rows"],
    codes: dict[tuple[Condition, ...], Int64[np.ndarray, " rows"]],
) -> Int64[np.ndarray, " rows"]:
    """Give the outcome of each row; that of the conditions before the last is kept for the next path."""
    if not conditions:
        codes.clear()  # the next tree begins
        return np.zeros(columns.shape[1], dtype=np.int64)
    if conditions not in codes:
        last = conditions[-1]
        before = _code(conditions[:-1], columns, codes)
        met = (columns[last.feature] <= last.threshold).astype(np.int64)
        codes[conditions] = before | (met << (len(conditions) - 1))
    return codes[conditions]


def _is_plain(node: Mapping[str, Any], depth: int) -> bool:
    if "leaf_value" in node:
        return depth <= DEEPEST and "leaf_features" not in node
    plain = node["decision_type"] == "<=" and node["missing_type"] == "None" and 0 < _share(node) < 1
    return plain and _is_plain(node["left_child"], depth + 1) and _is_plain(node["right_child"], depth + 1)


def _expected(node: Mapping[str, Any]) -> float:
    """Give the mean value of the leaves below, by training rows."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    share = _share(node)
    return share * _expected(node["left_child"]) + (1 - share) * _expected(node["right_child"])


def _share(node: Mapping[str, Any]) -> float:
    """Give the share of a split's training rows that goes left."""
    left = node["left_child"]
    return float(left.get("internal_count", left.get("leaf_count", 0))) / float(node["internal_count"])


def _steps(
    node: Mapping[str, Any], output: int, conditions: tuple[Condition, ...], met: tuple[bool, ...]
) -> Iterator[Step]:
    """Walk a tree from left to right; met says which way led here."""
    if "leaf_value" in node:
        return
    own = (*conditions, Condition(int(node["split_feature"]), float(node["threshold"]), _share(node)))
    children = ((node["left_child"], True), (node["right_child"], False))
    leaves = [(float(child["leaf_value"]), (*met, left)) for child, left in children if "leaf_value" in child]
    if leaves:  # two leaves of one split ask the same, so one look-up serves both
        features = tuple(dict.fromkeys(condition.feature for condition in own))
        yield Step(output, own, features, np.sum([_tabulate(value, own, way, features) for value, way in leaves], 0))
    for child, left in children:
        yield from _steps(child, output, own, (*met, left))


def _tabulate(
    value: float, conditions: tuple[Condition, ...], way: tuple[bool, ...], features: tuple[int, ...]
) -> Float64[np.ndarray, "features outcomes"]:
    """Give the SHAP values of one leaf for every outcome of the conditions on the way to it."""
    bits = (np.arange(2 ** len(conditions))[None, :] >> np.arange(len(conditions))[:, None]) & 1
    agrees = bits == np.array(way)[:, None]
    share = np.array([one.share if left else 1 - one.share for one, left in zip(conditions, way, strict=True)])
    of_feature = np.array([[one.feature == feature for one in conditions] for feature in features])
    holds = _all_hold(agrees, of_feature)[:, :, None]
    shares = np.where(of_feature, share, 1.0).prod(axis=1)[:, None, None]
    time, weight = _quadrature(len(features) // 2 + 1)
    factors = shares * (1 - time) + holds * time
    others = factors.prod(axis=0) / factors
    return np.asarray(value * (holds - shares)[:, :, 0] * (others @ weight))


@cache
def _quadrature(points: int) -> tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]]:
    """Give places and weights on 0..1 that are exact for polynomials of a degree below 2 x points."""
    place, weight = np.polynomial.legendre.leggauss(points)
    return (place + 1) / 2, weight / 2


def _all_hold(
    agrees: Bool[np.ndarray, "conditions outcomes"], of_feature: Bool[np.ndarray, "features conditions"]
) -> Float64[np.ndarray, "features outcomes"]:
    """Say for every feature whether all conditions on it hold."""
    return np.asarray((agrees[None] | ~of_feature[:, :, None]).all(axis=1), dtype=np.float64)
