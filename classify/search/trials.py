"""The trials of one study: suggest, score fold by fold, stop early what falls behind, until the budget is spent."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import Any

import numpy as np

from classify.predictions import Predictions
from classify.search.progress import show_trials
from classify.search.scoring import running_score
from classify.search.spaces import SearchSpace
from classify.search.study import Study, Tried, read_choice
from classify.search.workers import PredictFolds
from embeddings_store.errors import RunError

KEPT_PERCENT = 25.0
"""A trial goes on while it is among this best part of all trials after as many folds: successive halving keeps a
quarter too (Jamieson & Talwalkar, AISTATS 2016). All trials see the same folds, so they compare better than folds do.
Optuna's pruners compare the best score that a trial ever had, which for a running score is that of a lucky first fold.
"""

FIRST_JUDGED = 4
"""Trials that run through before any is stopped: of fewer there is no quarter."""

JUDGED_BY = 100
"""Held-out participants that a trial has predicted before it may be stopped: fewer rank trials by accident."""


@dataclass(frozen=True)
class Budget:
    """When to stop: at this many finished trials of the study, or after this many minutes of this call, or both.

    trials 0: minutes alone. clock: seconds.
    """

    trials: int
    minutes: float | None = None
    clock: Callable[[], float] = monotonic


def run_trials(
    study: Study, space: SearchSpace, predict: PredictFolds, folds: int, budget: Budget
) -> tuple[list[Tried], str]:
    """Give all finished trials of the study, those of earlier calls included, and what ended it: trials or minutes."""
    tried = study.tried()
    started = budget.clock()
    with show_trials(len(tried), budget.trials or None) as advance:
        while not budget.trials or len(tried) < budget.trials:
            spent = budget.minutes is not None and budget.clock() - started >= 60 * budget.minutes
            if tried and spent:
                return tried, "minutes"
            tried.append(_try_one(study, space, predict, folds, tried))
            advance(max((one.value for one in tried if one.value is not None), default=None))
    return tried, "trials"


def best_of(tried: list[Tried]) -> Tried:
    """Give the best trial that was scored over all folds; of equals the first. Raises: RunError where none was."""
    scored = [one for one in tried if one.value is not None]
    if not scored:
        raise RunError(f"search: expected a score from at least one of {len(tried)} trials, got none that is a number")
    return max(scored, key=lambda one: one.value or 0.0)


def _try_one(study: Study, space: SearchSpace, predict: PredictFolds, folds: int, earlier: Sequence[Tried]) -> Tried:
    trial = study.ask(len(earlier))
    choice = read_choice(trial.params, space)
    parts: list[Predictions] = []
    scores: list[float] = []
    with closing(predict(space.spec(**choice))) as predicted:
        for part in predicted:
            parts.append(part)
            score = running_score(parts)
            if not isfinite(score):  # a head that diverged
                break
            scores.append(score)
            trial.report(score, len(scores) - 1)
            judged = sum(len(one.label) for one in parts) >= JUDGED_BY
            if len(scores) < folds and judged and falls_behind(scores, earlier):
                break
    value = scores[-1] if len(scores) == folds else None
    study.tell(trial, value)
    return Tried(**choice, value=value, after_folds=tuple(scores))


def falls_behind(scores: Sequence[float], earlier: Sequence[Tried]) -> bool:
    """Say whether a trial's running score is below the best part of what earlier trials had after as many folds."""
    rivals = [one.after_folds[len(scores) - 1] for one in earlier if len(one.after_folds) >= len(scores)]
    return len(earlier) >= FIRST_JUDGED and scores[-1] < float(np.percentile(rivals, 100 - KEPT_PERCENT))


def describe_trials(tried: list[Tried]) -> list[dict[str, Any]]:
    """Give one line a trial for the run record."""
    return [one.to_dict() for one in tried]
