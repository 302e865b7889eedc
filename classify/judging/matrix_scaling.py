"""Matrix scaling: a multinomial logistic regression on a head's standardised logits; Platt's scaling for two classes.

Every class's score may speak for every class (Guo et al., ICML 2017, section 4.2), but equal steps from class to class
are nearly free and everything else is dear: without that, what a few hundred people tell of a middle class is mostly
noise. Slopes are then multiplied by scales that are best on participants held out of their own fit (van
Houwelingen & le Cessie, Statistics in Medicine 1990;9:1303): one of the steps, and one of everything else for each
class, since the latter holds more noise, and a middle class, which moves least, more of it than signal. Scores are bent
first: of people with extreme features a head is surer the farther out they lie, and is right about them no oftener.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import minimize

from classify.heads.contract import softmax

RIDGE, DEVIATION = 1.0, 15.0
"""Penalties on squared slopes of standardised logits, against a log-loss summed over participants: along the order of
the classes, and away from it. On 180 cohorts like AI-READI's train (743 participants; three kinds, three heads, seeds
that tests/truth does not report) 15 to 70 for the second gave the same log-loss on new people to 0.0002, and 15 the
slopes nearest to 1 there."""

BEND = 3.0
"""Scores s become BEND tanh(s / BEND): 2 standard deviations are 1.75, and none is more than 3. Of four classes in
cohorts with heavy tails it took 0.014 off a log-loss of 1.079; with normal ones it added 0.0005."""

MOST_SCALE = 1.3
"""Of what penalties have shrunk already, held-out people may ask for more; of two classes, never (see _find_scales)."""

LEAST_SCALE = 1e-3
"""Of the scales that cross-fitting leaves to the slopes: below, they say nothing of new people."""

SMALLEST = np.finfo(float).tiny

Logits = Float64[np.ndarray, "n k"]
ByClass = Float64[np.ndarray, "k n"]
"""Of many rows and few classes, sums over classes are several times as fast where a class lies together."""

Labels = Int64[np.ndarray, " n"]
Weights = Float64[np.ndarray, " n"]


def fit_matrix(logits: Logits, label: Labels, weights: Weights, fold: np.ndarray) -> dict[str, Any]:
    """Return slopes[score, class], shift[class], middle[score], spread and scale (the largest). fold: of people."""
    centred = _centred(logits)
    middle = weights @ centred / weights.sum()
    spread = _spread(centred - middle, weights)
    scores = np.ascontiguousarray(_bent(centred - middle, spread).T)
    parts = _fit_slopes(scores, label, weights)
    evidence = np.zeros((len(parts), *scores.shape))
    for number in np.unique(fold):
        fitted = fold != number
        found = _fit_slopes(np.ascontiguousarray(scores[:, fitted]), label[fitted], weights[fitted])
        evidence[..., ~fitted] = found.transpose(0, 2, 1) @ scores[:, ~fitted]
    scale = _find_scales(evidence, label, weights)
    slopes = np.tensordot(scale, parts, 1)
    _, shift, _ = _fit_scales((slopes.T @ scores)[None], label, weights, lowest=1.0)
    said = {"slopes": slopes.tolist(), "shift": shift.tolist(), "middle": middle.tolist()}
    return said | {"spread": spread, "scale": float(scale.max())}


def apply_matrix(logits: np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
    """Return probabilities. Parameters without a middle, of runs made before there was one, bend nothing."""
    middle, spread = parameters.get("middle"), parameters["spread"]
    centred = _centred(logits)
    scores = centred / spread if middle is None else _bent(centred - np.array(middle), spread)
    return softmax(scores @ np.array(parameters["slopes"]) + np.array(parameters["shift"]))


def says_nothing(parameters: dict[str, Any]) -> bool:
    """Return True where the scales left nothing of the slopes. parameters: of any method."""
    return float(parameters.get("scale", 1.0)) < LEAST_SCALE


def _find_scales(
    evidence: Float64[np.ndarray, "parts k n"], label: Labels, weights: Weights
) -> Float64[np.ndarray, " parts"]:
    """Return the scales of the parts of the slopes, by what they told of participants who were held out.

    Two classes have one part, and its scale is taken only where people ask for it by more than a free parameter is
    worth (Akaike 1974): of a rare class, it is mostly noise, and never makes anybody surer.
    """
    free = _fit_scales(evidence, label, weights, lowest=0.0)
    if len(evidence) > 1:
        return free[0]
    whole = _fit_scales(evidence, label, weights, lowest=1.0)
    return free[0] if whole[2] - free[2] > 1 else np.ones(1)


def _fit_slopes(scores: ByClass, label: Labels, weights: Weights) -> Float64[np.ndarray, "parts k k"]:
    """Return slopes[part, score, class], penalised by RIDGE and DEVIATION: equal steps, and everything else by class.

    Of two classes all of it is one part.
    """
    classes = len(scores)
    order = np.arange(classes) - (classes - 1) / 2
    order /= np.linalg.norm(order)

    def slopes_of(x: np.ndarray) -> np.ndarray:
        return np.stack([np.outer(x[classes : 2 * classes], order), x[2 * classes :].reshape(classes, classes)])

    penalty = np.r_[np.zeros(classes), np.full(classes, RIDGE), np.full(classes**2, DEVIATION)]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, away = _log_loss(slopes_of(x).sum(axis=0).T @ scores + x[:classes, None], label, weights)
        pull = scores @ away.T
        return value + penalty @ x**2 / 2, np.r_[away.sum(axis=1), pull @ order, pull.ravel()] + penalty * x

    found = minimize(
        loss, np.zeros(len(penalty)), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12}
    )
    steps, other = slopes_of(found.x)
    if classes == 2:
        return np.asarray(steps + other)[None]
    return np.stack([steps, *(other * column for column in np.eye(classes))])


def _fit_scales(
    evidence: Float64[np.ndarray, "parts k n"], label: Labels, weights: Weights, *, lowest: float
) -> tuple[Float64[np.ndarray, " parts"], Float64[np.ndarray, " k"], float]:
    """Return scales from lowest, class shifts and the log-loss of softmax(sum of scale * evidence, + shift)."""
    parts, classes = evidence.shape[:2]
    highest = MOST_SCALE if parts > 1 else 1.0

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, away = _log_loss(np.tensordot(x[:parts], evidence, 1) + np.r_[0.0, x[parts:]][:, None], label, weights)
        return value, np.r_[np.tensordot(evidence, away, 2), away[1:].sum(axis=1)]

    start = np.r_[np.ones(parts), np.zeros(classes - 1)]
    bounds = [(lowest, highest)] * parts + [(None, None)] * (classes - 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12})
    return found.x[:parts], np.r_[0.0, found.x[parts:]], float(found.fun)


def _log_loss(logits: ByClass, label: Labels, weights: Weights) -> tuple[float, ByClass]:
    """Return the weighted log-loss, and its gradient by the logits."""
    row = np.arange(len(label))
    logits = logits - logits.max(axis=0)
    away = np.exp(logits)
    total = away.sum(axis=0)
    value = (np.log(total) - logits[label, row]) @ weights
    away *= weights / total
    away[label, row] -= weights
    return float(value), away


def _centred(logits: Logits) -> Logits:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def _bent(around: Logits, spread: float) -> Logits:
    return np.asarray(BEND * np.tanh(around / spread / BEND))


def _spread(around: Logits, weights: Weights) -> float:
    """Return the standard deviation of what lies around each class's mean; 1 where nothing varies."""
    spread = float(np.sqrt((weights @ around**2).sum() / weights.sum() / around.shape[1]))
    return spread if spread > SMALLEST else 1.0
