"""Splits and folds that keep every scan of a person on one side."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from classify.errors import LeakError

SPLITS = ("train", "val", "test")
OUT_OF_FOLD = "out-of-fold"
"""Name of the split of predictions that a cross-validation makes: of everybody, each by fits without them."""

NO_TEST = "cross-validated, no test split: each participant was predicted by fits without them"
"""What a cross-validated run claims, in short."""


def check_no_leak(sides: Mapping[str, Sequence[str]]) -> None:
    """Refuse participants that stand on two sides.

    sides: name of a split or fold -> its participants (repeats within one side are fine).
    Raises: LeakError that names every leaked participant and its sides.
    """
    where: dict[str, list[str]] = {}
    for side, participants in sides.items():
        for participant in set(participants):
            where.setdefault(participant, []).append(side)
    leaked = {participant: names for participant, names in where.items() if len(names) > 1}
    if leaked:
        lines = ", ".join(f"{participant} ({' and '.join(names)})" for participant, names in sorted(leaked.items()))
        raise LeakError(f"participants on two sides of a split: {lines}; keep every scan of a person on one side")


NUMBER_STRATA = 5


def grouped_folds(
    participant: Shaped[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    *,
    folds: int,
    seed: int,
) -> Int64[np.ndarray, " n"]:
    """Deal participants into folds, stratified by label, and give each volume the fold of its participant.

    A participant whose eyes or scans have several classes counts as the rarest of them; of numbers, fifths of the
    participants' means are the classes. Each class is shuffled and placed in turn, going on where the class before it
    ended, so fold sizes differ by one at most and no class needs as many participants as there are folds. The order of
    the volumes does not matter.
    """
    names, inverse = np.unique(participant, return_inverse=True)
    person_label = strata_of(label, inverse)
    rng = np.random.default_rng(seed)
    fold_of_person = np.empty(len(names), np.int64)
    placed = 0
    for value in np.unique(person_label):
        members = rng.permutation(np.flatnonzero(person_label == value))
        fold_of_person[members] = (placed + np.arange(len(members))) % folds
        placed += len(members)
    return fold_of_person[inverse]


def strata_of(
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"], person: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " people"]:
    """Return the class of each participant, by which folds are stratified. person: number of each volume's, from 0."""
    people = int(person.max()) + 1 if len(person) else 0
    if np.issubdtype(label.dtype, np.floating):
        mean = np.bincount(person, label, minlength=people) / np.bincount(person, minlength=people)
        return np.asarray(np.argsort(np.argsort(mean, kind="stable")) * NUMBER_STRATA // max(people, 1), np.int64)
    classes, code = np.unique(label, return_inverse=True)
    owners = np.unique(np.stack([code, person]), axis=1)[0]
    rank = np.argsort(np.argsort(np.bincount(owners, minlength=len(classes)), kind="stable"))
    rarest = np.full(people, len(classes), np.int64)
    np.minimum.at(rarest, person, rank[code])
    return np.asarray(classes[np.argsort(rank)[rarest]], np.int64)
