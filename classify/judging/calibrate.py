"""Calibration: temperature or isotonic, fitted on val, judged on val participants that it was not fitted on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize_scalar

from classify.cohort.splits import grouped_folds
from classify.errors import RunFolderError
from classify.features import participant_weights
from classify.heads.contract import softmax
from classify.judging.metrics import CALIBRATION_BINS, all_metrics
from classify.predictions import Predictions, rows_of
from embeddings_store.errors import UsageError

CALIBRATION = "calibration.json"
FOLDS = 5
TEMPERATURES = (0.05, 20.0)
JUDGED = ("log_loss", "expected_calibration_error")

Parameters = dict[str, Any]
Logits = Float64[np.ndarray, "n k"]


@dataclass(frozen=True)
class Method:
    """One way to calibrate: fit(predictions) -> parameters in JSON types; apply(logits, parameters) -> probability."""

    fit: Callable[[Predictions], Parameters]
    apply: Callable[[np.ndarray, Parameters], np.ndarray]


@dataclass(frozen=True)
class Calibrator:
    """A fitted method: its parameters for each level (volume, eye, participant)."""

    method: str
    parameters: Mapping[str, Parameters]

    def apply(self, predictions: Predictions) -> Predictions:
        """Give the predictions with calibrated probabilities; logits become their logarithms."""
        probability = METHODS[self.method].apply(predictions.logits, self.parameters[predictions.level])
        return _with(predictions, probability)

    def save(self, folder: Path) -> None:
        """Write one JSON file."""
        (folder / CALIBRATION).write_text(json.dumps({"method": self.method, "parameters": self.parameters}, indent=2))


def find_method(name: str) -> str | None:
    """Read --calibrate; "none" is None, an unknown name a UsageError that lists them."""
    if name == "none":
        return None
    if name not in METHODS:
        raise UsageError(f"--calibrate: expected one of none, {', '.join(METHODS)}, got {name!r}")
    return name


def load_calibrator(folder: Path) -> Calibrator | None:
    """Read what save wrote; None where the run was not calibrated. Raises: RunFolderError where it is damaged."""
    path = folder / CALIBRATION
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text())
        return Calibrator(str(METHODS[raw["method"]] and raw["method"]), dict(raw["parameters"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"model folder: {CALIBRATION} cannot be read; make the run again") from error


def calibrate(method: str, levels: Mapping[str, Predictions], *, seed: int) -> tuple[Calibrator, dict[str, Any]]:
    """Fit a method on every level of val, and give the ``calibration`` field of the run record.

    "after" comes from folds of participants: each is calibrated by a fit that did not see them.
    """
    calibrator = Calibrator(method, {level: METHODS[method].fit(part) for level, part in levels.items()})
    judged = {
        level: {"parameters": calibrator.parameters[level]} | _before_and_after(method, part, seed)
        for level, part in levels.items()
    }
    record = {"method": method, "fitted_on": "val", "folds": FOLDS, "seed": seed, "levels": judged}
    return calibrator, record


def cross_fit(method: str, predictions: Predictions, seed: int) -> Predictions:
    """Calibrate each participant by a fit on the other folds of participants."""
    fold = grouped_folds(predictions.participant, predictions.label, folds=FOLDS, seed=seed)
    probability = predictions.probability.copy()
    for number in np.unique(fold):
        fitted = METHODS[method].fit(rows_of(predictions, fold != number))
        probability[fold == number] = METHODS[method].apply(predictions.logits[fold == number], fitted)
    return _with(predictions, probability)


def decide_on(method: str | None, people: Predictions, *, seed: int) -> tuple[Predictions, str] | None:
    """Give val predictions whose probabilities may be read at face value, and how they came; None: not calibrated."""
    if method is None:
        return None
    return cross_fit(method, people, seed), f"{method}, each participant by a fit on the others of {people.split}"


def reliability(predictions: Predictions) -> list[dict[str, float]]:
    """List the bins of the top probability that hold a unit: low, n, mean confidence, share that is right."""
    confidence = predictions.probability.max(axis=1)
    right = predictions.probability.argmax(axis=1) == predictions.label
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return [
        {
            "low": number / CALIBRATION_BINS,
            "n": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()),
            "right": float(right[bins == number].mean()),
        }
        for number in np.unique(bins).tolist()
    ]


def measure_calibration(predictions: Predictions) -> dict[str, float]:
    """Give log-loss and expected calibration error of all units."""
    once = np.ones((len(predictions.label), 1))
    names = [str(number) for number in range(predictions.probability.shape[1])]
    values = all_metrics(predictions.label, predictions.probability, once, names)
    return {name: float(values[name][0]) for name in JUDGED}


def _before_and_after(method: str, predictions: Predictions, seed: int) -> dict[str, Any]:
    after = cross_fit(method, predictions, seed)
    return {
        "before": measure_calibration(predictions) | {"reliability": reliability(predictions)},
        "after": measure_calibration(after) | {"reliability": reliability(after)},
    }


def _fit_temperature(predictions: Predictions) -> Parameters:
    """Minimise the log-loss over one temperature, every participant weighing one (Guo et al., ICML 2017, section 4)."""
    weights = participant_weights(predictions.label, predictions.participant, balanced=False)
    rows = np.arange(len(predictions.label))

    def loss(log_temperature: float) -> float:
        probability = softmax(predictions.logits / np.exp(log_temperature))[rows, predictions.label]
        return float(-np.log(np.clip(probability, np.finfo(float).tiny, None)) @ weights)

    low, high = TEMPERATURES
    found = minimize_scalar(loss, bounds=(np.log(low), np.log(high)), method="bounded")
    return {"temperature": float(np.exp(found.x))}


def _apply_temperature(logits: np.ndarray, parameters: Parameters) -> np.ndarray:
    return softmax(logits / parameters["temperature"])


def _fit_isotonic(predictions: Predictions) -> Parameters:
    """Fit one rising step function a class, one against the rest (Zadrozny & Elkan, KDD 2002).

    floor: half a participant in all; a step at 0 would be sure of what so few people cannot show.
    """
    from sklearn.isotonic import IsotonicRegression

    weights = participant_weights(predictions.label, predictions.participant, balanced=False)
    curves = []
    for number in range(predictions.logits.shape[1]):
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        curve.fit(predictions.probability[:, number], predictions.label == number, sample_weight=weights)
        curves.append({"x": curve.X_thresholds_.tolist(), "y": curve.y_thresholds_.tolist()})
    return {"curves": curves, "floor": float(0.5 / weights.sum())}


def _apply_isotonic(logits: np.ndarray, parameters: Parameters) -> np.ndarray:
    known = softmax(logits)
    columns = [np.interp(known[:, n], curve["x"], curve["y"]) for n, curve in enumerate(parameters["curves"])]
    raised = np.clip(np.column_stack(columns), parameters["floor"], None)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


METHODS: Mapping[str, Method] = {
    "temperature": Method(_fit_temperature, _apply_temperature),
    "isotonic": Method(_fit_isotonic, _apply_isotonic),
}


def _with(predictions: Predictions, probability: np.ndarray) -> Predictions:
    logits = np.log(np.clip(probability, np.finfo(float).tiny, None))
    return replace(predictions, logits=logits, probability=probability)
