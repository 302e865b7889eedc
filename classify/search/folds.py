"""Participant-grouped, stratified folds inside train; what is learned before a head is learned within each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.errors import CohortError
from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable, unit_weights
from classify.fitting.aggregate import mean_units
from classify.heads import HEADS
from classify.heads.contract import Head, TrainingRows
from embeddings_store.errors import UsageError

FOLDS = 5
HELD_OUT_FOLDS = 10
"""For calibration: a fit on nine tenths is nearer to the model than one on four fifths, which is quieter."""
INNER_FOLDS = 3
"""Inside a training part, for an aggregation that learns from predictions of held-out participants."""


class TrainingPart:
    """Rows to fit on, and what every fit on them shares: made at the first wish, then kept.

    chosen: the positions of the rows in a table of raw ones, or all. standardiser: fitted on these rows only, without
    their augmented views. rows: standardised volumes. inner: folds of these rows, for what is learned from held-out
    predictions.
    """

    def __init__(self, table: FeatureTable, seed: int, chosen: Int64[np.ndarray, " m"] | None = None) -> None:
        self.table, self.chosen = table, chosen
        self.seed = seed
        self._prepared: dict[tuple[str, bool], Any] = {}

    @property
    def raw(self) -> FeatureTable:
        """Give these rows as they came: a copy, where they are not all of the table."""
        return self.table if self.chosen is None else self.table.where(self.chosen)

    @cached_property
    def standardiser(self) -> Standardiser:
        """Means and spreads of these rows."""
        return Standardiser.fit(self.table.x, self.table.protocol, tokens=self.table.tokens, rows=self.chosen)

    @cached_property
    def rows(self) -> FeatureTable:
        """Give the standardised volumes."""
        return self.table.standardised(self.standardiser, self.chosen)

    @cached_property
    def inner(self) -> list["Fold"]:
        """Deal these rows once more."""
        return make_folds(self.raw, self.seed, folds=INNER_FOLDS)

    def prepared(self, head: type[Head], *, of_people: bool) -> Any:
        """Give what a head's fits on the volumes, or on the participant means, share."""
        if (head.name, of_people) not in self._prepared:
            self._prepared[head.name, of_people] = head.prepare(self.rows_for(head, of_people=of_people))
        return self._prepared[head.name, of_people]

    def rows_for(self, head: type[Head], *, of_people: bool) -> TrainingRows:
        """Give the rows that a head is fitted on, as heads take them: volumes, or the means of participants.

        An augmented view is one more row, and the rows of a volume weigh together what it weighs alone. A head that
        pools a participant's scans takes no views: they would be scans that were never made.
        """
        seen = [self.rows, *([] if head.pools_scans else self.rows.of_views())]
        tables = [mean_units(one) for one in seen] if of_people else seen
        weights = head_weights(head.name, tables[0]) / len(tables)
        owner = "unit" if head.pools_scans else "participant"  # a bag is the scans of one label
        if len(tables) == 1:
            return TrainingRows(tables[0].x, tables[0].y, weights, getattr(tables[0], owner))
        return TrainingRows(
            np.concatenate([one.x for one in tables]),
            np.concatenate([one.y for one in tables]),
            np.tile(weights, len(tables)),
            np.concatenate([getattr(one, owner) for one in tables]),
        )


@dataclass(frozen=True)
class Fold:
    """Rows to fit on, and rows held out, standardised by the former."""

    fit: TrainingPart
    held: FeatureTable


def make_folds(train: FeatureTable, seed: int, *, folds: int = FOLDS) -> list[Fold]:
    """Deal the participants of train into folds, each standardised by its own training part.

    A class with fewer participants than folds makes fewer folds: see count_folds, which says so.
    """
    return list(deal_folds(train, seed, folds=folds))


def deal_folds(train: FeatureTable, seed: int, *, folds: int = FOLDS) -> Iterator[Fold]:
    """Do the same one fold at a time: patch tokens are too many to hold in every fold at once."""
    count = min(folds, smallest_class(train.participant, train.y))
    if count < 2:
        raise CohortError(TOO_FEW if not np.issubdtype(train.y.dtype, np.floating) else TOO_FEW_NUMBERS)
    fold = grouped_folds(train.participant, train.y, folds=count, seed=seed)
    check_no_leak({f"fold {number}": train.participant[fold == number].tolist() for number in range(count)})
    for number in range(count):
        yield make_fold(train, fold != number, seed)


def make_fold(train: FeatureTable, fitted: np.ndarray, seed: int) -> Fold:
    """Split by a mask: rows to fit on, and the others held out."""
    part = TrainingPart(train, seed, np.flatnonzero(fitted))
    return Fold(part, train.standardised(part.standardiser, np.flatnonzero(~fitted)))


TOO_FEW = (
    "train: a class has one participant, so no fold can hold it back and fit on it as well; "
    "choose a --task that joins it with another class"
)


FEWEST_NUMBERS = 10
"""Participants of train below which a number is not learned: every fit and every fold of it would be a guess."""

TOO_FEW_NUMBERS = f"train: one participant has a number; it takes {FEWEST_NUMBERS} to learn one"


def why_not_learned(train: FeatureTable) -> str:
    """Say why no number can be learned from these rows; "" where it can."""
    people = len(np.unique(train.participant))
    if people < FEWEST_NUMBERS:
        return f"{people} participants have a number; it takes {FEWEST_NUMBERS} to learn one"
    return f"everybody has the same number, {train.y[0]:g}" if np.ptp(train.y) == 0 else ""


def count_folds(
    participant: Shaped[np.ndarray, " n"], label: Shaped[np.ndarray, " n"], classes: Sequence[str], asked: int | None
) -> tuple[int, str | None]:
    """Give how many folds there will be, and a sentence where they are fewer than FOLDS.

    asked: None for FOLDS, or for as many as the smallest class has participants.
    Raises: UsageError where more folds are asked for than a class has participants, CohortError where it has one.
    """
    first = np.unique(participant, return_index=True)[1]
    if not classes:
        if asked is not None and asked > len(first):
            raise UsageError(f"--folds {asked}: train has {len(first)} participants; give --folds {FOLDS} or fewer")
        return asked or FOLDS, None
    counts = np.bincount(label[first], minlength=len(classes))
    number = min(np.flatnonzero(counts).tolist(), key=lambda one: int(counts[one]))
    name, smallest = classes[number], int(counts[number])
    if smallest < 2:
        raise CohortError(TOO_FEW.replace("a class", name))
    if asked is None and smallest < FOLDS:
        return smallest, f"folds: {smallest} in place of {FOLDS}, because train has {smallest} participants of {name}"
    if asked is not None and asked > smallest:
        raise UsageError(
            f"--folds {asked}: every fold needs every class, and train has {smallest} participants of {name}; "
            f"give --folds {smallest} or fewer"
        )
    return asked or FOLDS, None


def smallest_class(participant: Shaped[np.ndarray, " n"], label: Shaped[np.ndarray, " n"]) -> int:
    """Count the participants of the smallest class that is there; all of them, where the labels are numbers."""
    first = np.unique(participant, return_index=True)[1]
    if np.issubdtype(label.dtype, np.floating):
        return len(first)
    return int(np.unique(label[first], return_counts=True)[1].min())


def head_weights(model: str, table: FeatureTable) -> Float64[np.ndarray, " n"]:
    """Weigh the volumes as the head wants its classes."""
    return unit_weights(table.y, table.unit, balanced=HEADS[model].balanced)
