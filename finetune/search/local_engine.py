"""Trials one after another in this process, pruned by the median of earlier ones."""

from collections.abc import Callable
from typing import Any

from extract.device.backend import Backend
from finetune.search.study import Journal, Space, count_finished, describe_trial
from finetune.search.trial import TrialRunner

WARMUP_EPOCHS = 2
STARTUP_TRIALS = 4
"""No trial is stopped before so many epochs, nor while so few trials have ended."""


def search_locally(
    journal: Journal, space: Space, runner: TrialRunner, backend: Backend, *, trials: int, tell: Callable[[str], None]
) -> Any:
    """Try until the study holds so many finished trials; give the study."""
    import optuna

    study = journal.study(optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_EPOCHS))

    def attempt(trial: Any) -> float:
        def report(epochs: int, score: float) -> None:
            trial.report(score, epochs)
            if trial.should_prune():
                raise optuna.TrialPruned

        space.suggest(trial)
        return runner.score(trial.params, backend, report, lambda line: tell(f"trial {trial.number + 1}, {line}"))

    while (finished := count_finished(study)) < trials:
        study.optimize(attempt, n_trials=1)
        tell(f"trial {finished + 1} of {trials}: {describe_trial(study.trials[-1])}")
    return study
