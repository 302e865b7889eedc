"""Participant-grouped, stratified folds inside train; what is learned before a head is learned within each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.features import FeatureTable, participant_weights
from classify.heads import HEADS
from classify.standardise import Standardiser

FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """Standardised rows to fit on and rows held out; the standardiser saw the former only."""

    fit: FeatureTable
    held: FeatureTable


def make_folds(train: FeatureTable, seed: int) -> list[Fold]:
    """Deal the participants of train into FOLDS folds, each standardised by its own training part."""
    fold = grouped_folds(train.participant, train.y, folds=FOLDS, seed=seed)
    check_no_leak({f"fold {number}": train.participant[fold == number].tolist() for number in range(FOLDS)})
    return [_make_fold(train, fold != number) for number in range(FOLDS) if (fold == number).any()]


def _make_fold(train: FeatureTable, fitted: np.ndarray) -> Fold:
    fit, held = train.where(fitted), train.where(~fitted)
    standardiser = Standardiser.fit(fit.x, fit.protocol)
    return Fold(fit.standardised(standardiser), held.standardised(standardiser))


def head_weights(model: str, table: FeatureTable) -> Float64[np.ndarray, " n"]:
    """Weigh the volumes as the head wants its classes."""
    return participant_weights(table.y, table.participant, balanced=HEADS[model].balanced)
