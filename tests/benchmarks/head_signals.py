"""Cohorts whose truth is known: what a class does to embeddings, in as many ways as a bench of heads needs.

A volume is what its participant is plus what this scan adds (each of variance 1); a participant has 2 to 5 scans. All
numbers are random. Bayes: the best that anybody could say of the fresh participants who knew the truth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from classify.cohort.table import Cohort
from classify.cohort.tasks import Task
from classify.features.table import FeatureChoice, FeatureTable, table_of
from classify.fitting.source import FeatureSource
from embeddings_store.space import EmbeddingSpace

FRESH = 600
GRID = (2, 4, 4)
TOKENS, CHANNELS = 32, 16
BOX = ((0, 1, 2), (0, 1, 3), (1, 1, 2), (1, 1, 3))
"""The tokens of the one region, as places of GRID."""

SCALE = {2: np.array([-1.0, 1.0]), 4: np.linspace(-1.5, 1.5, 4)}
"""Where the classes lie on what tells them apart."""


@dataclass(frozen=True)
class Scans:
    """Who was scanned how: participant and label of each volume, and random parts to build on."""

    rng: np.random.Generator
    person: np.ndarray
    label: np.ndarray
    step: np.ndarray
    people: int

    def noise(self, width: int) -> np.ndarray:
        """Draw what a participant is, and what each scan adds."""
        own = self.rng.normal(size=(self.people, width))
        return np.asarray(own[self.person] + self.rng.normal(size=(len(self.person), width)))

    def means(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean of each participant's scans, and its variance in any direction."""
        count = np.bincount(self.person, minlength=self.people)
        total = np.zeros((self.people, x.shape[1]))
        np.add.at(total, self.person, x)
        return total / count[:, None], 1 + 1 / count

    def sums(self, of_scans: np.ndarray) -> np.ndarray:
        """Add up what independent scans say of a participant."""
        total = np.zeros((self.people, of_scans.shape[1]))
        np.add.at(total, self.person, of_scans)
        return total


@dataclass(frozen=True)
class Signal:
    """Rows of scans, the log-likelihood of each class for each participant, and which tokens and devices they have."""

    x: np.ndarray
    evidence: np.ndarray
    tokens: bool = False
    device: np.ndarray | None = None


@dataclass(frozen=True)
class Drawn:
    """Participants to learn from, and fresh ones. bayes: macro AUROC of the truth on these."""

    train: FeatureSource
    fresh: FeatureSource
    tokens: bool
    bayes: float


def draw(structure: str, people: int, classes: int, seed: int, *, width: int) -> Drawn:
    """Draw a cohort. width: of pooled vectors; tokens are TOKENS x CHANNELS."""
    from heads_measured import macro_auroc

    rng = np.random.default_rng([seed, people, classes, *structure.encode()])
    label = np.r_[np.arange(people) % classes, np.arange(FRESH) % classes]
    person = np.repeat(np.arange(len(label)), rng.integers(2, 6, len(label)))
    scans = Scans(rng, person, label[person], SCALE[classes][label], len(label))
    signal = STRUCTURES[structure](scans, width, SCALE[classes])
    fresh = np.arange(len(label)) >= people
    source = _source(scans, signal, fresh, classes)
    return Drawn(
        source.only("train"), source.only("test"), signal.tokens, macro_auroc(label[fresh], signal.evidence[fresh])
    )


def _shift(scans: Scans, x: np.ndarray, direction: np.ndarray, scale: np.ndarray) -> Signal:
    """Move every class along a direction; Bayes is linear discriminant analysis on participants' means."""
    x = x + scans.step[scans.person][:, None] * direction
    mean, variance = scans.means(x)
    away = ((mean[:, None, :] - scale[:, None] * direction) ** 2).sum(axis=2)
    return Signal(x, -away / (2 * variance[:, None]))


def dense(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """Every dimension tells a little."""
    direction = scans.rng.normal(size=width)
    return _shift(scans, scans.noise(width), 0.9 * direction / np.linalg.norm(direction), scale)


def null(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """Nothing tells anything: the evidence is the same for all."""
    x = scans.noise(width)
    return Signal(x, np.zeros((scans.people, len(scale))))


def sparse(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """Four dimensions tell all."""
    return _shift(scans, scans.noise(width), 0.45 * (np.arange(width) < 4), scale)


def quadratic(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """Classes differ by how far eight dimensions vary, and in no mean."""
    telling, spread = 8, np.exp(0.45 * (scale - scale.mean()))
    own = scans.rng.normal(size=(scans.people, width))
    own[:, :telling] *= np.exp(0.45 * scans.step)[:, None]
    x = own[scans.person] + scans.rng.normal(size=(len(scans.person), width))
    mean, variance = scans.means(x)
    wide = spread[None, :] ** 2 + (variance - 1)[:, None]
    square = (mean[:, :telling] ** 2).sum(axis=1)[:, None]
    return Signal(x, -square / (2 * wide) - telling / 2 * np.log(wide))


def few_scans(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """One scan in four shows the class, and shows that it does; the others are noise alone."""
    direction = np.zeros(width)
    direction[:8] = 0.5
    shown = scans.rng.random(len(scans.person)) < 0.25
    x = scans.rng.normal(size=(len(scans.person), width))
    x += np.where(shown, scans.step[scans.person], 0.0)[:, None] * direction
    x[:, 8] += 3.0 * shown
    marks = np.zeros(width)
    marks[8] = 3.0
    normal = -((x[:, None, :] - scale[:, None] * direction - marks) ** 2).sum(axis=2) / 2
    blank = -(x**2).sum(axis=1, keepdims=True) / 2
    return Signal(x, scans.sums(np.logaddexp(normal + np.log(0.25), blank + np.log(0.75))))


def device(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """A device moves everything, and goes with the class where heads learn; among fresh participants it does not."""
    found = dense(scans, width, scale)
    odds = np.where(np.arange(scans.people) < scans.people - FRESH, scans.step / (2 * scale.max()) * 0.7 + 0.5, 0.5)
    second = (scans.rng.random(scans.people) < odds)[scans.person]
    moved = found.x + second[:, None] * 2.0 * scans.rng.normal(size=width)
    return Signal(moved, found.evidence, device=second)


def _box() -> np.ndarray:
    flat = np.ravel_multi_index(np.array(BOX).T, GRID)
    return np.isin(np.arange(TOKENS), flat)


def region(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """One region of tokens tells, at the same place in every volume."""
    direction = np.zeros((TOKENS, CHANNELS))
    direction[_box(), :2] = 0.3
    found = _shift(scans, scans.noise(TOKENS * CHANNELS), direction.ravel(), scale)
    places = scans.rng.normal(size=TOKENS * CHANNELS)  # every place looks different, as a transformer's tokens do
    return Signal(found.x + places, found.evidence, tokens=True)


def moving_region(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """One token tells, at another place in each volume, and stands out there."""
    count = len(scans.person)
    place = scans.rng.integers(0, TOKENS, count)
    x = scans.rng.normal(size=(count, TOKENS, CHANNELS))
    x[np.arange(count), place, 0] += 4.0
    x[np.arange(count), place, 1] += scans.step[scans.person] * 0.45
    stands_out = 4 * x[:, :, None, 0] - 8.0
    tells = x[:, :, None, 1] * scale * 0.45 - (scale * 0.45) ** 2 / 2
    evidence = scans.sums(logsumexp(stands_out + tells, axis=1))
    return Signal(x.reshape(count, -1), evidence, tokens=True)


def everywhere(scans: Scans, width: int, scale: np.ndarray) -> Signal:
    """Every token tells the same little."""
    direction = np.zeros((TOKENS, CHANNELS))
    direction[:, 0] = 0.12
    found = _shift(scans, scans.noise(TOKENS * CHANNELS), direction.ravel(), scale)
    return Signal(found.x, found.evidence, tokens=True)


STRUCTURES: Mapping[str, Callable[[Scans, int, np.ndarray], Signal]] = {
    "dense": dense, "sparse": sparse, "quadratic": quadratic, "few-scans": few_scans, "device": device,
    "null": null, "region": region, "moving-region": moving_region, "everywhere": everywhere,
}  # fmt: skip


def _source(scans: Scans, signal: Signal, fresh: np.ndarray, classes: int) -> FeatureSource:
    count = len(scans.person)
    second = np.zeros(count, bool) if signal.device is None else signal.device
    table = pd.DataFrame(
        {
            "volume": [f"{number:016x}" for number in range(count)],
            "participant": [f"{1000 + number}" for number in scans.person],
            "eye": np.where(np.arange(count) % 2, "L", "R"),
            "device": np.where(second, "second", "first"), "protocol": np.where(second, "second", "first"),
            "site": "1", "age": 60.0, "label": scans.label, "split": np.where(fresh[scans.person], "test", "train"),
        }
    )  # fmt: skip
    names = tuple(f"class-{number}" for number in range(classes))
    cohort = Cohort(table, np.arange(count), Task("bench", names, {}), phantom=True)
    x = signal.x.astype(np.float32)
    pooled = x.reshape(count, TOKENS, CHANNELS).mean(axis=1) if signal.tokens else x
    space = EmbeddingSpace(
        "random", "0" * 64, (8, 64, 64), (4, 16, 16), pooled.shape[1], 4, 3, {"name": "random"}, ("last",), ("mean",),
        GRID if signal.tokens else None, "fp32",
    )  # fmt: skip
    row_of = dict(zip(table["volume"], range(count), strict=True))

    def read(part: Cohort, choice: FeatureChoice) -> FeatureTable:
        rows = [row_of[volume] for volume in part.table["volume"]]
        channels = tuple(f"last/{place}/{channel}" for place in range(TOKENS) for channel in range(CHANNELS))
        return table_of(part, x[rows], channels, space, tokens=TOKENS)

    return FeatureSource(cohort, pooled[:, None, None, :], space, read if signal.tokens else None)
