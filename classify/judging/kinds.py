"""What a task is judged by: its metrics, those that make the headline, and the one that a search maximises.

The kind is known by the classes: a task without any asks for a number. Whatever measures, compares or prints asks
here, so that no metric of classes is ever said of a number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from classify.judging import metrics, number_metrics
from classify.run.predictions import Predictions

SMALLER_IS_BETTER = frozenset({"mean_absolute_error", "root_mean_squared_error"})
"""Among the headlines; of all others more is better."""

Weights = Float64[np.ndarray, "n R"]
Values = dict[str, Float64[np.ndarray, " R"]]


@dataclass(frozen=True)
class Measures:
    """The metrics of a kind of task.

    headline: whose differences are shown; the first ranks a leaderboard. table: of the terminal.
    overall: all that are not of one class.
    searched_by: what a search maximises, one of the headline. compute(predictions, weights, classes): every metric of
    every weighting; compute_headline: the headline alone, for whoever asks for no more.
    why_absent(metric, label, classes): why a metric of these units is undefined.
    """

    headline: tuple[str, ...]
    table: tuple[str, ...]
    overall: tuple[str, ...]
    searched_by: str
    compute: Callable[[Predictions, Weights, Sequence[str]], Values]
    compute_headline: Callable[[Predictions, Weights, Sequence[str]], Values]
    why_absent: Callable[[str, np.ndarray, Sequence[str]], str]

    def once(self, people: Predictions, classes: Sequence[str]) -> dict[str, float]:
        """Give the headline of predictions, every unit counting once; NaN is undefined."""
        values = self.compute_headline(people, np.ones((len(people.label), 1)), classes)
        return {name: float(value[0]) for name, value in values.items()}


def _of_classes(people: Predictions, weights: Weights, classes: Sequence[str]) -> Values:
    return metrics.all_metrics(people.label, people.probability, weights, classes, scores=people.scores)


def _headline_of_classes(people: Predictions, weights: Weights, classes: Sequence[str]) -> Values:
    return metrics.headline_metrics(people.label, people.scores, weights, classes)


def _of_number(people: Predictions, weights: Weights, classes: Sequence[str]) -> Values:  # noqa: ARG001 - has none
    return number_metrics.number_metrics(people.label, people.probability[:, 0], weights)


def _headline_of_number(people: Predictions, weights: Weights, classes: Sequence[str]) -> Values:  # noqa: ARG001
    return number_metrics.headline_metrics(people.label, people.probability[:, 0], weights)


CLASSES = Measures(
    metrics.HEADLINE, (*metrics.HEADLINE, "quadratic_weighted_kappa"), metrics.OVERALL, "macro_auroc", _of_classes,
    _headline_of_classes, metrics.why_absent,
)  # fmt: skip
NUMBERS = Measures(
    number_metrics.HEADLINE, (*number_metrics.HEADLINE, "spearman"), number_metrics.OVERALL, "r2", _of_number,
    _headline_of_number, number_metrics.why_absent,
)  # fmt: skip


def measures_of(classes: Sequence[str]) -> Measures:
    """Return what a task with these classes is judged by; () asks for a number."""
    return CLASSES if classes else NUMBERS


def sign_of(metric: str) -> float:
    """Return what a metric is multiplied by so that more is better: 1, or -1 for an error."""
    return -1.0 if metric in SMALLER_IS_BETTER else 1.0
