"""The trials of one study: draw, score fold by fold, stop early what falls behind, until the budget is spent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from time import monotonic
from typing import Any

import numpy as np

from classify.fitting.model import ModelSpec
from classify.run.predictions import Predictions
from classify.run.record import Judged, Open
from classify.run.typed_record import LEFT_OUT
from classify.search.progress import show_trials
from classify.search.scoring import running_score
from classify.search.spaces import SearchSpace
from classify.search.study import Drawing, Study
from classify.search.workers import TOGETHER, FoldWorkers
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

BEHIND = 0.125
"""A trial also stops where it lies further behind the best whole one, after as many folds, than this over the root of
the participants predicted: about a quarter of the standard error of one score, for both have predicted the same people.
Over again on 15 searches of seven heads (743 phantom participants, 50 trials), it saved 7 to 35 % of the fits (lgbm 35,
attentive 23, mlp 14), and never stopped the one that was best in the end; half as much stopped one for another that was
worse by 0.002.
"""


@dataclass(frozen=True)
class Tried:
    """One finished trial: what it was, its score over all folds (None: pruned), and its score after each fold."""

    parameters: dict[str, Any]
    layer: str
    pools: str
    aggregation: str
    value: float | None
    after_folds: tuple[float, ...]

    def describe(self) -> "TrialLine":
        """Give the trial's line in the record of its search."""
        return TrialLine(
            self.parameters,
            {"layer": self.layer, "pools": self.pools.split(",") if self.pools else []},
            self.aggregation,
            self.value,
            "complete" if self.value is not None else "pruned",
            list(self.after_folds),
        )


@dataclass(frozen=True)
class TrialLine:
    """What a trial was and how it ended, see Tried. state: complete or pruned."""

    parameters: Open
    features: Open
    aggregation: str
    value: float | None
    state: str
    after_folds: list[float]


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """What was tried. engine, stopped_by, resumed_at, study: of a search by trials. taken: how, of a grid of strengths.

    among: of model auto, see compare_rivals. nested: see score_nested.
    """

    trials: int
    pruned: int
    best: TrialLine
    sampler: str = "tpe"
    folds: int
    space: Open
    engine: str | None = field(default=None, metadata=LEFT_OUT)
    stopped_by: str | None = field(default=None, metadata=LEFT_OUT)
    resumed_at: int | None = field(default=None, metadata=LEFT_OUT)
    study: str | None = field(default=None, metadata=LEFT_OUT)
    taken: str | None = field(default=None, metadata=LEFT_OUT)
    metric: str
    history: list[TrialLine]
    among: Judged | None = field(default=None, metadata=LEFT_OUT)
    nested: Judged | None = field(default=None, metadata=LEFT_OUT)


def drawing_of(space: SearchSpace, seed: int) -> Drawing:
    """Draw from a space; first what it names, and a round of trials run side by side."""
    return Drawing(space.draw, seed, first=space.tried_first(), together=TOGETHER)


def tried_in(study: Study, space: SearchSpace) -> list[Tried]:
    """List the finished trials of a study, oldest first."""
    return [_read(trial, space, complete=study.complete(trial)) for trial in study.finished()]


def _read(trial: Any, space: SearchSpace, *, complete: bool) -> Tried:
    scores = tuple(float(trial.intermediate_values[step]) for step in sorted(trial.intermediate_values))
    return Tried(**space.choice(trial.params), value=float(trial.value) if complete else None, after_folds=scores)


@dataclass(frozen=True)
class TrialBudget:
    """When to stop: at this many finished trials of the study, or after this many minutes of this call, or both.

    trials 0: minutes alone; they are looked at before each round. clock: seconds.
    """

    trials: int
    minutes: float | None = None
    clock: Callable[[], float] = monotonic


def run_trials(study: Study, space: SearchSpace, workers: FoldWorkers, budget: TrialBudget) -> tuple[list[Tried], str]:
    """Give all finished trials of the study, those of earlier calls included, and what ended it: trials or minutes."""
    tried = tried_in(study, space)
    started = budget.clock()
    with show_trials(len(tried), budget.trials or None) as advance:
        while not budget.trials or len(tried) < budget.trials:
            spent = budget.minutes is not None and budget.clock() - started >= 60 * budget.minutes
            if tried and spent:
                return tried, "minutes"
            left = budget.trials - len(tried) if budget.trials else TOGETHER
            numbers = range(len(tried), len(tried) + min(left, TOGETHER - len(tried) % TOGETHER))
            # An earlier call may have ended in the middle of a round; its part is no rival of the rest.
            rivals = tried[: len(tried) - len(tried) % TOGETHER]
            for one in _try_round(study, space, workers, numbers, rivals):
                tried.append(one)
                advance(max((one.value for one in tried if one.value is not None), default=None))
    return tried, "trials"


def best_of(tried: list[Tried]) -> Tried:
    """Give the best trial that was scored over all folds; of equals the first. Raises: RunError where none was."""
    scored = [one for one in tried if one.value is not None]
    if not scored:
        raise RunError(f"search: expected a score from at least one of {len(tried)} trials, got none that is a number")
    return max(scored, key=lambda one: one.value or 0.0)


@dataclass
class _Attempt:
    """A trial on its way through the folds. asked: the folds that workers know of; over: stopped, or through."""

    trial: Any
    spec: ModelSpec
    asked: list[Callable[[], Predictions]] = field(default_factory=list)
    parts: list[Predictions] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    over: bool = False

    def ask(self, workers: FoldWorkers, ahead: int) -> None:
        """Have so many folds on their way."""
        for number in range(len(self.asked), min(len(self.parts) + ahead, workers.folds)):
            self.asked.append(workers.ask(self.spec, number))

    def take(self, folds: int, earlier: Sequence[Tried]) -> None:
        """Wait for the next fold, and judge."""
        self.parts.append(self.asked[len(self.parts)]())
        score = running_score(self.parts)
        if not isfinite(score):  # a head that diverged
            self.over = True
            return
        self.scores.append(score)
        self.trial.report(score, len(self.scores) - 1)
        people = sum(len(one.label) for one in self.parts)
        self.over = len(self.scores) == folds or falls_behind(self.scores, people, earlier)


def _try_round(
    study: Study, space: SearchSpace, workers: FoldWorkers, numbers: range, earlier: Sequence[Tried]
) -> list[Tried]:
    """Take trials that know nothing of each other through the folds side by side."""
    attempts = [_begin(study, space, number) for number in numbers]
    going = _keep_busy(attempts, workers)
    while going:
        for attempt in going:
            attempt.take(workers.folds, earlier)
            _keep_busy(attempts, workers)
        going = [attempt for attempt in going if not attempt.over]
    return [_end(study, space, attempt, workers.folds) for attempt in attempts]


def _begin(study: Study, space: SearchSpace, number: int) -> _Attempt:
    trial = study.ask(number)
    return _Attempt(trial, space.trial(trial.params))


def _keep_busy(attempts: Sequence[_Attempt], workers: FoldWorkers) -> list[_Attempt]:
    """Share the workers among the attempts that go on, and give these."""
    going = [attempt for attempt in attempts if not attempt.over]
    for ahead in range(1, 1 + max(1, workers.workers // max(1, len(going)))):
        for attempt in going:
            attempt.ask(workers, ahead)
    return going


def _end(study: Study, space: SearchSpace, attempt: _Attempt, folds: int) -> Tried:
    whole = len(attempt.scores) == folds
    return _read(study.end(attempt.trial, attempt.scores[-1] if whole else None), space, complete=whole)


def falls_behind(scores: Sequence[float], people: int, earlier: Sequence[Tried]) -> bool:
    """Say whether a trial's running score is below the best part of what earlier trials had after as many folds.

    Or further behind the best of them than chance explains, see BEHIND. people: who it has predicted.
    """
    whole = [one for one in earlier if one.value is not None]
    if len(earlier) < FIRST_JUDGED or people < JUDGED_BY or not whole:
        return False
    last = len(scores) - 1
    rivals = [one.after_folds[last] for one in earlier if len(one.after_folds) > last]
    near_best = best_of(whole).after_folds[last] - BEHIND / people**0.5
    return bool(scores[-1] < max(near_best, float(np.percentile(rivals, 100 - KEPT_PERCENT))))
