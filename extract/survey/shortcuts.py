"""Whether facts that are no anatomy (frames, size, depth, file type, vendor) nearly give a label away."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from extract.layouts.contract import Warned
from extract.survey.facts import Surveyed

FEWEST, FEWEST_OF_CLASS, FOLDS = 30, 8, 5
MOST_CLASSES = 10
NEAREST = 5
"""Scans that are asked at least; all that are as near are asked with them."""

TELLS = 0.25
"""How far of the way from chance to certainty facts must lead before they are named."""

TOGETHER = 0.02
"""By how much all facts must do better than the best of them alone to be named, too."""

Fact = Callable[[Surveyed], float | str]

FACTS: Mapping[str, Sequence[Fact]] = {
    "frame count": (lambda one: float(one.frames),),
    "size": (lambda one: float(one.rows), lambda one: float(one.columns)),
    "bit depth": (lambda one: float(one.bits),),
    "file type": (lambda one: one.container or one.files[0].rpartition(".")[2].lower(),),
    "vendor": (lambda one: one.scan.ref.device,),
}


def facts_that_tell(volumes: Sequence[Surveyed], columns: Sequence[str]) -> list[Warned]:
    """Predict each label from each fact alone and from all together, for people whom the model has not seen."""
    words = [said for column in columns for said in _told_by(volumes, column)]
    text = "facts of the files nearly give the label"
    return [Warned("facts_tell_label", text, tuple(words))] if words else []


def _told_by(volumes: Sequence[Surveyed], column: str) -> list[str]:
    labelled = [one for one in volumes if one.labels.get(column)]
    counts = Counter(one.labels[column] for one in labelled)
    if len(labelled) < FEWEST or not 2 <= len(counts) <= MOST_CLASSES or min(counts.values()) < FEWEST_OF_CLASS:
        return []
    enough = (1 / len(counts)) + TELLS * (1 - 1 / len(counts))
    facts = {name: fact for name, fact in FACTS.items() if name != column}
    alone = {name: balanced_accuracy(labelled, column, fact) for name, fact in facts.items()}
    said = [f"{name} alone reaches balanced accuracy {value:.2f} for {column}" for name, value in alone.items()
            if value > enough]  # fmt: skip
    together = balanced_accuracy(labelled, column, [one for fact in facts.values() for one in fact])
    if together > max(enough, *(value + TOGETHER for value in alone.values())):
        said.append(f"{', '.join(facts)} together reach balanced accuracy {together:.2f} for {column}")
    return said


def balanced_accuracy(volumes: Sequence[Surveyed], column: str, facts: Sequence[Fact]) -> float:
    """Cross-validate, by participant, the class most enriched among the scans nearest in these facts.

    A number is as far from another as their ranks are, a word 1 from any other; scans of equal facts count as one
    place, so that 30,000 scans are as quick as their different facts are few.
    """
    people = sorted({one.scan.ref.participant for one in volumes})
    fold = {person: number % FOLDS for number, person in enumerate(people)}
    names, label = np.unique([one.labels[column] for one in volumes], return_inverse=True)
    place, apart = _places(volumes, facts)
    fold_of = np.array([fold[one.scan.ref.participant] for one in volumes])
    right = np.zeros(len(label), dtype=bool)
    for held_out in range(FOLDS):
        out = fold_of == held_out
        counts = np.zeros((len(apart), len(names)))
        np.add.at(counts, (place[~out], label[~out]), 1)
        guess = _guess(counts, apart)
        right[out] = guess[place[out]] == label[out]
    return float(np.mean([right[label == number].mean() for number in range(len(names))]))


def _places(
    volumes: Sequence[Surveyed], facts: Sequence[Fact]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "places places"]]:
    """Give the place of each scan among the different facts, and how far each place lies from each."""
    columns = []
    for fact in facts:
        values, number = np.unique([fact(one) for one in volumes], return_inverse=True)
        columns.append((number, np.issubdtype(values.dtype, np.number), max(1, len(values) - 1)))
    different, place = np.unique(np.stack([number for number, _, _ in columns], axis=1), axis=0, return_inverse=True)
    apart = np.zeros((len(different), len(different)))
    for at, (_, is_number, steps) in enumerate(columns):
        gap = np.abs(different[:, None, at] - different[None, :, at])
        apart += gap / steps if is_number else gap > 0
    return place.ravel().astype(np.int64), apart


def _guess(counts: Float64[np.ndarray, "places classes"], apart: Float64[np.ndarray, "places places"]) -> np.ndarray:
    """Give each place the class most enriched among the scans around it: NEAREST of them, and all as near."""
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    guess = np.zeros(len(apart), dtype=np.int64)
    for number, distance in enumerate(apart):
        order = np.argsort(distance, kind="stable")
        reached = np.cumsum(counts[order].sum(axis=1))
        limit = distance[order][min(int(np.searchsorted(reached, NEAREST)), len(order) - 1)]
        guess[number] = shares[distance <= limit].sum(axis=0).argmax()
    return guess
