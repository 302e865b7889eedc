"""One fold of one spec: fitted, predicted, and scored together with the folds before it."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.model import ModelSpec, predict_out_of_fold
from classify.fitting.source import FeatureSource
from classify.judging.kinds import measures_of
from classify.run.predictions import Predictions, join_predictions, judged_of
from classify.search.folds import Fold, make_fold
from embeddings_store.machine import usable_memory_bytes

KEPT_SHARE = 0.25
"""Of the machine's memory, over all workers: features of folds that are kept for the next trial, because patch tokens
take longer to read than to learn from. What was used longest ago goes first."""


class FoldScorer:
    """Predicts held-out participants of train, fold by fold, and keeps what fits on the same rows share.

    source: the participants of train alone. seed: of the folds and the heads. workers: how many share the memory.
    """

    def __init__(self, source: FeatureSource, *, classes: int, seed: int, folds: int, workers: int = 1) -> None:
        self.source, self.classes, self.seed, self.folds = source, classes, seed, folds
        self._kept_bytes = KEPT_SHARE * usable_memory_bytes() / workers
        table = source.cohort.table
        self.people = table["participant"].to_numpy(str)
        self.fold_of_row = deal_folds(self.people, table["label"].to_numpy(), folds, seed)
        self._kept: OrderedDict[tuple[FeatureChoice, int], Fold] = OrderedDict()

    def predict(self, spec: ModelSpec, number: int) -> Predictions:
        """Predict the participants of one fold by a model that was fitted on the others."""
        fold = self.fold(spec.features, number)
        (levels,) = predict_out_of_fold(spec, [fold], classes=self.classes, seed=self.seed)
        return judged_of(levels)

    def fold(self, choice: FeatureChoice, number: int) -> Fold:
        """Give a fold of a choice of features, made at the first wish and kept."""
        if (choice, number) not in self._kept:
            self._make_room(self.source.table(choice))
            self._kept[choice, number] = self.fold_once(choice, number)
        self._kept.move_to_end((choice, number))
        return self._kept[choice, number]

    def fold_once(self, choice: FeatureChoice, number: int) -> Fold:
        """Give a fold that is asked for once, and not kept."""
        return make_fold(self.source.table(choice), self.fold_of_row != number, self.seed)

    def _make_room(self, raw: FeatureTable) -> None:
        """Let folds go until one more fits: a standardised copy, and as much again for what heads make."""
        sizes = [2 * fold.fit.table.x.nbytes for fold in self._kept.values()]
        while sizes and sum(sizes) + 2 * raw.x.nbytes > self._kept_bytes:
            sizes.pop(0)
            self._kept.popitem(last=False)


def deal_folds(people: np.ndarray, label: Shaped[np.ndarray, " n"], folds: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Give each row its fold; no participant has rows in two."""
    fold = grouped_folds(people, label, folds=folds, seed=seed)
    check_no_leak({f"fold {number}": people[fold == number].tolist() for number in range(folds)})
    return fold


def running_score(parts: Sequence[Predictions]) -> float:
    """Give searched_by of the participants of these folds together.

    Of classes macro AUROC, which is finer than balanced accuracy: every pair of participants counts, so two candidates
    rarely tie, and no decision threshold is tuned by accident. Of numbers R2.
    """
    people = join_predictions(parts)
    measures = measures_of(people.numbered)
    return measures.once(people, people.numbered)[measures.searched_by]
