"""Of models that are equally good, how often does a leaderboard call one worse than the best; and of one that is worse?

Scores are drawn, not fitted, and balanced accuracy is counted by one product of matrices, since the claim is about
scores alone; intervals are those of ``classify compare``, and ``test_boards.py`` holds that the shortcut is exact.
Models share much or little of their errors, and lean towards either class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from kept_results import Kept

from classify.comparing.board import Line
from classify.comparing.leaderboard import RANKED_BY, add_simultaneous, find_best
from classify.judging.bootstrap import Replicates, draw_replicates, summarise
from classify.judging.metrics import HEADLINE

Values = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Setting:
    """per_class: participants. scans: most volumes a participant, 0: people are judged. lean: shift of a score."""

    name: str
    per_class: tuple[int, ...]
    scans: int = 0
    lean: float = 0.0


SETTINGS = (
    Setting("159 people, 48 and 111, leaning", (48, 111), lean=0.5),
    Setting("159 people, 4 classes", (40, 40, 40, 39)),
    Setting("60 people, 20 and 40", (20, 40)),
    Setting("60 people, 4 classes", (15, 15, 15, 15)),
    Setting("159 people, 1 to 6 volumes each", (48, 111), scans=6),
    Setting("159 people, 4 classes, 1 to 6 volumes each", (62, 35, 50, 12), scans=6),
)
POWER = Setting("159 people, 48 and 111", (48, 111))
MODELS = (3, 6, 12, 20)
SIGNAL = 1.2


@dataclass(frozen=True)
class Drawn:
    """Scores [model, unit, class], and the label and participant of each unit."""

    scores: np.ndarray
    label: np.ndarray
    person: np.ndarray


def draw(setting: Setting, models: int, seed: int, worse: float = 0.0) -> Drawn:
    """Draw equal models, but that the last has a signal that is smaller by ``worse``.

    Each has its own share of what all of them get wrong (0.1 to 0.95), with the same spread in sum.
    """
    rng = np.random.default_rng([seed, models, sum(setting.per_class), setting.scans])
    classes, people = len(setting.per_class), sum(setting.per_class)
    volumes = rng.integers(1, setting.scans + 1, people) if setting.scans else np.ones(people, np.int64)
    person = np.repeat(np.arange(people), volumes)
    label = np.repeat(np.arange(classes), setting.per_class)[person]
    shared = np.sqrt(0.6) * rng.normal(size=(people, classes))[person]
    shared = shared + np.sqrt(0.4) * rng.normal(size=(len(person), classes))
    own = np.sqrt(0.6) * rng.normal(size=(models, people, classes))[:, person]
    own = own + np.sqrt(0.4) * rng.normal(size=(models, len(person), classes))
    load = rng.uniform(0.1, 0.95, models)[:, None, None]
    signal = np.full(models, SIGNAL)
    signal[-1] -= worse
    scores = np.sqrt(load) * shared + np.sqrt(1 - load) * own + signal[:, None, None] * np.eye(classes)[label]
    scores[:, :, 0] += setting.lean * (-1.0) ** np.arange(models)[:, None]
    return Drawn(scores, label, np.array([f"{number:04d}" for number in range(people)])[person])


def balanced_accuracies(drawn: Drawn, replicates: Replicates) -> Values:
    """Give {model: {"balanced_accuracy": [R]}}, element 0 the estimate."""
    right = (drawn.scores.argmax(axis=2) == drawn.label).astype(np.float64)
    weights = replicates.weights_of(drawn.person, slice(None))
    recall = []
    for one in np.unique(drawn.label):
        here = drawn.label == one
        total = weights[here].sum(axis=0)
        recall.append(right[:, here] @ weights[here] / np.where(total > 0, total, np.nan))
    found = np.mean(recall, axis=0)
    return {f"m{number}": dict.fromkeys(HEADLINE, one) for number, one in enumerate(found)}


def called_worse(drawn: Drawn, *, replicates: int, seed: int = 0) -> set[str]:
    """Name the models that the board calls worse than the best."""
    values = balanced_accuracies(drawn, draw_replicates(drawn.person, replicates=replicates, seed=seed))
    best = find_best(list(values), values)
    assert best is not None
    differences = {
        name: {RANKED_BY: summarise(of[RANKED_BY] - values[best][RANKED_BY], "undefined")}
        for name, of in values.items()
        if name != best
    }
    lines = [
        Line(
            name=name, kind="model", participants=len(drawn.label), seconds=None, metrics={},
            difference_to_best=differences.get(name), difference_to_random_twin=None,
        )
        for name in values
    ]  # fmt: skip
    add_simultaneous(lines, values, best, list(values))
    shown = {name: of[RANKED_BY].at_once() for name, of in differences.items()}
    return {name for name, one in shown.items() if max(one.ends, default=0.0) < 0}


def true_balanced_accuracy(worse: float) -> float:
    """Give what a model of two classes reaches in the end, whose signal is smaller by ``worse``."""
    return NormalDist().cdf((SIGNAL - worse) / np.sqrt(2))


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the tables. Seeds are those that no choice of the method has seen."""
    studies = 300 if long else 20
    yield "| some model called worse, of equal ones | " + " | ".join(f"{models} models" for models in MODELS) + " |"
    yield "|---|" + "---|" * len(MODELS)
    for setting in filter(lambda one: kept.wants(one.name), SETTINGS):
        found = [
            kept.of(
                f"{setting.name}: {models} of {studies}",
                lambda models=models, setting=setting: false_claims(setting, models, range(studies)),
            )
            for models in MODELS
        ]
        yield f"| {setting.name} | " + " | ".join(f"{100 * one / studies:.1f} %" for one in found) + " |"
    yield ""
    yield "| the one that is worse is named | " + " | ".join(f"{models} models" for models in MODELS) + " |"
    yield "|---|" + "---|" * len(MODELS)
    for worse in filter(lambda one: kept.wants(f"worse by {one}"), (0.3, 0.6, 1.2)):
        named = [
            kept.of(
                f"worse by {worse}: {models} of {studies // 3}",
                lambda models=models, worse=worse: times_named(models, worse, range(studies // 3)),
            )
            for models in MODELS
        ]
        lost = true_balanced_accuracy(0.0) - true_balanced_accuracy(worse)
        yield (
            f"| true balanced accuracy lower by {lost:.2f} | "
            + " | ".join(f"{100 * one / (studies // 3):.0f} %" for one in named)
            + " |"
        )


def times_named(models: int, worse: float, seeds: Sequence[int]) -> int:
    """Count the studies in which the one model that is worse is called so."""
    drawn = (draw(POWER, models, 60_000 + seed, worse) for seed in seeds)
    return sum(f"m{models - 1}" in called_worse(one, replicates=500) for one in drawn)


def false_claims(setting: Setting, models: int, seeds: Sequence[int]) -> int:
    """Count the studies of equal models in which some model is called worse than the best."""
    return sum(bool(called_worse(draw(setting, models, 7000 + n), replicates=1000, seed=n)) for n in seeds)
