"""What the trials of a search are drawn from, how they run here or on a cluster, and what its record says."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from classify.run.record import Open
from classify.search.ray_engine import Report
from classify.search.study import Drawing, Study
from extract.device.backend import Backend
from finetune.errors import DivergedError
from finetune.parallel.spmd import open_trainer
from finetune.search.trial import TrialRunner

JOURNAL = "study.journal"
HEADS = ("linear", "mlp", "ordinal", "attentive")
BATCH_SIZES = (4, 8, 16)
DRAWN_AT_RANDOM = 5
STOPPED_FROM_EPOCH = 2
STOPPED_FROM_TRIAL = 4
"""No trial is stopped before so many epochs, nor while so few trials have ended."""


@dataclass(frozen=True)
class Space:
    """What may be suggested. blocks: the most of the last blocks, 0 where no encoder is trained."""

    blocks: int

    def draw(self, trial: Any) -> None:
        """Let an Optuna trial draw a value for everything."""
        trial.suggest_categorical("head", HEADS)
        trial.suggest_categorical("batch_size", BATCH_SIZES)
        trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)
        if self.blocks:
            trial.suggest_int("blocks", 0, self.blocks)
            trial.suggest_float("encoder_learning_rate", 1e-6, 1e-3, log=True)

    def drawing(self, seed: int) -> Drawing:
        """Draw trials one after another, stopped by the median of earlier ones."""
        from optuna.pruners import MedianPruner

        pruner = MedianPruner(n_startup_trials=STOPPED_FROM_TRIAL, n_warmup_steps=STOPPED_FROM_EPOCH)
        return Drawing(self.draw, seed, startup=DRAWN_AT_RANDOM, pruner=pruner)


def search_locally(
    study: Study, runner: TrialRunner, backend: Backend, *, trials: int, tell: Callable[[str], None]
) -> None:
    """Try one after another in this process, until the study holds so many finished trials."""
    for number in range(len(study.finished()), trials):
        trial = study.ask(number)
        ended = study.end(trial, _try(trial, number + 1, runner, backend, tell))
        tell(f"trial {number + 1} of {trials}: {describe_trial(ended)}")


def _try(trial: Any, number: int, runner: TrialRunner, backend: Backend, tell: Callable[[str], None]) -> float | None:
    """Train a trial, and return its score; None where it was stopped, or what was drawn made it diverge."""
    from optuna import TrialPruned

    def report(epochs: int, score: float) -> None:
        trial.report(score, epochs)
        if trial.should_prune():
            raise TrialPruned

    try:
        return runner.score(trial.params, backend, report, lambda line: tell(f"trial {number}, {line}"))
    except (TrialPruned, DivergedError):
        return None


def train_on_ray(runner: TrialRunner, params: Mapping[str, Any], report: Report) -> None:
    """Train one suggestion in a worker of a cluster."""
    recipe = runner.options.recipe
    backend = open_trainer(runner.options.device, forward_size=recipe.micro_batch_size or recipe.batch_size)
    runner.score(params, backend, lambda epochs, score: report({epochs: score}, True), lambda _: None)


def median_rule(tune: Any) -> Any:
    """Stop trials of a cluster by the rule of those that run here."""
    return tune.schedulers.MedianStoppingRule(
        time_attr="training_iteration", grace_period=STOPPED_FROM_EPOCH, min_samples_required=STOPPED_FROM_TRIAL
    )


@dataclass(frozen=True)
class BestTrial:
    """The trial with the highest score."""

    number: int
    value: float
    parameters: Open


@dataclass(frozen=True)
class TrialLine:
    """A finished trial. value: None where it was stopped or diverged."""

    number: int
    state: str
    value: float | None
    parameters: Open


@dataclass(frozen=True)
class TuneRecord:
    """The record of a search: its trials, the best one, and how they were scored."""

    engine: str
    trials: int
    states: dict[str, int]
    best: BestTrial
    metric: str
    held_back_participants: int
    history: list[TrialLine]


def describe_study(study: Study, runner: TrialRunner, engine: str) -> TuneRecord:
    """Give the record of a search."""
    finished, best = study.finished(), study.best()
    return TuneRecord(
        engine,
        len(finished),
        dict(Counter(trial.state.name.lower() for trial in finished)),
        BestTrial(best.number, best.value, best.params),
        "balanced accuracy of held-back participants of train, less 0.001 of their log-loss",
        runner.held_back,
        [TrialLine(one.number, one.state.name.lower(), one.value, one.params) for one in finished],
    )


def describe_trial(trial: Any) -> str:
    """Say in a line what was tried and how it went."""
    told = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in trial.params.items()}
    tried = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"{trial.state.name.lower()}, {tried}, {trial.value}"
