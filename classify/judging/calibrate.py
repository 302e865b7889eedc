"""Calibration: from a head's logits to probabilities at a stated prevalence.

Fitted on predictions of train that were made out of fold, so that val judges it untouched; then moved from the class
shares of train to the stated prevalence (Saerens et al., Neural Computation 2002;14:21). A run folder keeps it in
``model/calibration.json``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize_scalar

from classify.cohort.splits import grouped_folds
from classify.errors import RunFolderError
from classify.heads.contract import softmax
from classify.judging.matrix_scaling import apply_matrix, fit_matrix, says_nothing
from classify.judging.number_calibration import FITS, LINE, apply_line, choose_line
from classify.judging.prevalence import move
from classify.model_files import read_object
from classify.run.predictions import Predictions, judged_of, rows_of, weigh_as_judged
from embeddings_store.errors import UsageError

CALIBRATION = "calibration.json"
FOLDS = 5
TEMPERATURES = (0.01, 100.0)
SAME = 1e-9
AUTO, CONSTANT, ISOTONIC = "auto", "constant", "isotonic"
SMALLEST = np.finfo(float).tiny

Parameters = dict[str, Any]
Logits = Float64[np.ndarray, "n k"]


@dataclass(frozen=True)
class Method:
    """One way to calibrate: fit(predictions) -> parameters in JSON types; apply(logits, parameters) -> probability."""

    fit: Callable[[Predictions], Parameters]
    apply: Callable[[np.ndarray, Parameters], np.ndarray]


@dataclass(frozen=True)
class Calibrator:
    """A fitted method: its parameters for each level (volume, eye, participant).

    shares: of the classes among the participants it was fitted on; prevalence: the shares that probabilities are
    stated at. Both None in runs made before there was a prevalence. why_constant: why no calibration is possible, if
    so; everybody then gets the prevalence.
    """

    method: str
    parameters: Mapping[str, Parameters]
    shares: tuple[float, ...] | None = None
    prevalence: tuple[float, ...] | None = None
    why_constant: str = ""

    def apply(self, predictions: Predictions) -> Predictions:
        """Return the predictions with calibrated probabilities; logits stay the head's own."""
        if (level := predictions.level) not in self.parameters:
            raise RunFolderError(
                f"model folder: {CALIBRATION} has no parameters of the level {level}; make the run again"
            )
        probability = METHODS[self.method].apply(predictions.logits, self.parameters[level])
        if self.shares is not None and self.prevalence is not None:
            probability = move(probability, self.shares, self.prevalence)
        return replace(predictions, probability=probability)

    def at(self, prevalence: tuple[float, ...]) -> "Calibrator":
        """Return the same calibration stated at another prevalence. Raises: UsageError for a run that has none."""
        if self.shares is None:
            raise UsageError("--prevalence: this run was calibrated before probabilities had one; make the run again")
        return replace(self, prevalence=prevalence)

    def save(self, folder: Path) -> None:
        """Write one JSON file."""
        (folder / CALIBRATION).write_text(json.dumps(vars(self), indent=2))


@dataclass(frozen=True)
class Choice:
    """A calibrator and why it was taken. log_loss: of each candidate, cross-fitted; of numbers the squared error."""

    calibrator: Calibrator
    log_loss: Mapping[str, float]


def find_method(name: str) -> str | None:
    """Read --calibrate; "none" is None, an unknown name a UsageError that lists them."""
    if name == "none":
        return None
    if name not in (AUTO, *CHOICES):
        raise UsageError(f"--calibrate: expected one of {AUTO}, {', '.join(CHOICES)}, none, got {name!r}")
    return name


def load_calibrator(folder: Path) -> Calibrator | None:
    """Read what save wrote; None where the run was not calibrated. Raises: RunFolderError where it is damaged."""
    path = folder / CALIBRATION
    if not path.exists():
        return None
    try:
        raw = read_object(path)
        shares, prevalence = (tuple(raw[name]) if raw.get(name) else None for name in ("shares", "prevalence"))
        method = str(METHODS[raw["method"]] and raw["method"])
        return Calibrator(method, dict(raw["parameters"]), shares, prevalence, str(raw.get("why_constant", "")))
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"model folder: {CALIBRATION} cannot be read; make the run again") from error


def choose_calibrator(
    asked: str, held_out: Mapping[str, Predictions], prevalence: tuple[float, ...], *, seed: int
) -> Choice:
    """Fit a method on every level of held-out predictions of train.

    asked: a method, or auto for the one with the smallest cross-fitted log-loss. Where it is no better than saying the
    class shares to everybody, or ends at its limit, the class shares are what everybody gets, with the reason.
    """
    held_out = weigh_as_judged(held_out)
    people = judged_of(held_out)
    losses = {
        name: log_loss(cross_fit(name, people, seed).probability, people)
        for name in (CONSTANT, *(CHOICES if asked == AUTO else (asked,)))
    }
    name = min((one for one in losses if one != CONSTANT), key=lambda one: losses[one])
    if name == ISOTONIC and asked == AUTO and not _clearly_lower(people, seed):
        name = min((one for one in losses if one not in {CONSTANT, ISOTONIC}), key=lambda one: losses[one])
    found = {level: METHODS[name].fit(part) for level, part in held_out.items()}
    same = np.ptp(people.logits, axis=0).max() < SAME
    why = "everybody has the same scores" if same else _why_not(name, found[people.level], losses)
    if why:
        name, found = CONSTANT, {level: METHODS[CONSTANT].fit(part) for level, part in held_out.items()}
    shares = tuple(METHODS[CONSTANT].fit(people)["shares"])
    return Choice(Calibrator(name, found, shares, prevalence, why), losses)


def calibrate_on(
    asked: str | None, held_out: Mapping[str, Predictions], prevalence: tuple[float, ...], *, seed: int
) -> Choice | None:
    """Do choose_calibrator; None for a run that shall not be calibrated. Of a number, see choose_line."""
    if not judged_of(held_out).numbered:
        name, found, why, losses = choose_line(asked, held_out, seed=seed)
        return Choice(Calibrator(name, found, why_constant=why), losses)
    return choose_calibrator(asked, held_out, prevalence, seed=seed) if asked else None


def cross_fit(method: str, predictions: Predictions, seed: int) -> Predictions:
    """Calibrate each participant by a fit on the other folds of participants."""
    fold = grouped_folds(predictions.participant, predictions.label, folds=FOLDS, seed=seed)
    probability = predictions.probability.copy()
    for number in np.unique(fold):
        fitted = METHODS[method].fit(rows_of(predictions, fold != number))
        probability[fold == number] = METHODS[method].apply(predictions.logits[fold == number], fitted)
    return replace(predictions, probability=probability)


def log_loss(probability: Float64[np.ndarray, "n k"], truth: Predictions) -> float:
    """Return the mean over what is judged of minus the logarithm of the probability of what they are."""
    weights = truth.fit_weights
    right = probability[np.arange(len(truth.label)), truth.label]
    return float(-np.log(np.clip(right, SMALLEST, None)) @ weights / weights.sum())


def describe_method(record: Mapping[str, Any] | None) -> str:
    """Say in a few words, for pages and tables, what the probabilities of a run are. record: run.json's calibration."""
    if record and record["method"] in FITS:
        return _describe_line(record)
    if not record:
        return "not calibrated: as the head gives them, at balanced classes"
    if "prevalence" not in record:
        return f"{record['method']} only, at balanced classes"
    if record["why_constant"]:
        return f"no calibration possible ({record['why_constant']}): everybody is shown the prevalence"
    return f"calibrated ({record['method']}, on out-of-fold predictions of train)"


def _describe_line(record: Mapping[str, Any]) -> str:
    if record["why_constant"]:
        return f"no calibration possible ({record['why_constant']}): everybody is shown the mean of train"
    shown = "on a line of what the head gives" if record["method"] == LINE else "as the head gives them"
    return f"numbers {shown}; how far they may be off is known from out-of-fold predictions of train"


def _why_not(name: str, fitted: Parameters, losses: Mapping[str, float]) -> str:
    temperature, (low, high) = fitted.get("temperature"), TEMPERATURES
    if temperature is not None and not 1.01 * low < temperature < 0.99 * high:
        return f"the fit of {name} ended at its limit"
    if losses[name] >= losses[CONSTANT] or says_nothing(fitted):
        return "of people who were not fitted on, the scores say no more than the class shares do"
    return ""


def _clearly_lower(people: Predictions, seed: int) -> bool:
    """Say whether isotonic's log-loss is below logistic's by more than one standard error over participants.

    Its steps are sure of what few people show: taken for any smaller loss, it once cost 0.10 on new people.
    """
    row = np.arange(len(people.label))
    step, smooth = (
        -np.log(np.clip(cross_fit(name, people, seed).probability[row, people.label], SMALLEST, None))
        for name in (ISOTONIC, "logistic")
    )
    gain = smooth - step
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def _fit_temperature(predictions: Predictions) -> Parameters:
    """Minimise the log-loss over one temperature, every participant weighing one (Guo et al., ICML 2017, section 4)."""
    low, high = TEMPERATURES
    found = minimize_scalar(
        lambda log: log_loss(softmax(predictions.logits / np.exp(log)), predictions),
        bounds=(np.log(low), np.log(high)),
        method="bounded",
    )
    return {"temperature": float(np.exp(found.x))}


def _apply_temperature(logits: np.ndarray, parameters: Parameters) -> np.ndarray:
    return softmax(logits / parameters["temperature"])


def _fit_logistic(predictions: Predictions) -> Parameters:
    weights = predictions.fit_weights
    fold = grouped_folds(predictions.participant, predictions.label, folds=FOLDS, seed=0)
    return fit_matrix(predictions.logits, predictions.label, weights, fold)


def _fit_isotonic(predictions: Predictions) -> Parameters:
    """Fit one rising step function a class, one against the rest (Zadrozny & Elkan, KDD 2002).

    floor: half a participant in all; a step at 0 would be sure of what so few people cannot show.
    """
    from sklearn.isotonic import IsotonicRegression

    weights = predictions.fit_weights
    known = softmax(predictions.logits)
    curves = []
    for number in range(predictions.logits.shape[1]):
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        curve.fit(known[:, number], predictions.label == number, sample_weight=weights)
        curves.append({"x": curve.X_thresholds_.tolist(), "y": curve.y_thresholds_.tolist()})
    return {"curves": curves, "floor": float(0.5 / weights.sum())}


def _apply_isotonic(logits: np.ndarray, parameters: Parameters) -> np.ndarray:
    known = softmax(logits)
    columns = [np.interp(known[:, n], curve["x"], curve["y"]) for n, curve in enumerate(parameters["curves"])]
    raised = np.clip(np.column_stack(columns), parameters["floor"], None)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _fit_constant(predictions: Predictions) -> Parameters:
    weights = predictions.fit_weights
    people = np.bincount(predictions.label, weights, minlength=predictions.logits.shape[1])
    return {"shares": ((people + 0.5) / (people + 0.5).sum()).tolist()}


def _apply_constant(logits: np.ndarray, parameters: Parameters) -> np.ndarray:
    return np.tile(np.array(parameters["shares"]), (len(logits), 1))


METHODS: Mapping[str, Method] = {
    "logistic": Method(_fit_logistic, apply_matrix),
    "temperature": Method(_fit_temperature, _apply_temperature),
    ISOTONIC: Method(_fit_isotonic, _apply_isotonic),
    CONSTANT: Method(_fit_constant, _apply_constant),
    **{name: Method(fit, apply_line) for name, fit in FITS.items()},
}

CHOICES: Sequence[str] = tuple(name for name in METHODS if name not in {CONSTANT, *FITS})
