"""The study of a search: an Optuna journal in a folder of its own, which every engine goes on with."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings_store.errors import RunError
from finetune.search.trial import TrialRunner

JOURNAL = "study.journal"
HEADS = ("linear", "mlp", "ordinal", "attentive")
BATCH_SIZES = (4, 8, 16)
STARTUP_TRIALS = 5


@dataclass(frozen=True)
class Space:
    """What may be suggested. blocks: the most of the last blocks, 0 where no encoder is trained."""

    blocks: int

    def suggest(self, trial: Any) -> None:
        """Let an Optuna trial draw a value for everything."""
        trial.suggest_categorical("head", HEADS)
        trial.suggest_categorical("batch_size", BATCH_SIZES)
        trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)
        if self.blocks:
            trial.suggest_int("blocks", 0, self.blocks)
            trial.suggest_float("encoder_learning_rate", 1e-6, 1e-3, log=True)


@dataclass(frozen=True)
class Journal:
    """Where a study is kept: its storage, its name in there, and how its next trials are drawn."""

    storage: Any
    name: str
    sampler: Any

    def study(self, pruner: Any = None) -> Any:
        """Open the study."""
        import optuna

        return optuna.create_study(
            direction="maximize", study_name=self.name, storage=self.storage, sampler=self.sampler, pruner=pruner,
            load_if_exists=True,
        )  # fmt: skip


def open_journal(folder: Path, key: str, seed: int, *, constant_liar: bool = False) -> Journal:
    """Open or begin the journal of a search. constant_liar: trials that still run count as bad ones.

    Raises RunError where it cannot be written, or belongs to another search.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except OSError as error:
        raise RunError(f"--study {folder}: expected a folder that can be written, got: {error.strerror}") from error
    names = [found.study_name for found in optuna.get_all_study_summaries(storage)]
    if names and names != [key]:
        raise RunError(
            f"--study {folder}: it belongs to another search (other data, encoder or recipe); choose another"
        )
    before = len(optuna.load_study(study_name=key, storage=storage).trials) if names else 0
    # With one seed the sampler of a resumed search would draw again what it drew at first.
    sampler = optuna.samplers.TPESampler(
        seed=seed + before, n_startup_trials=STARTUP_TRIALS, constant_liar=constant_liar
    )
    return Journal(storage, key, sampler)


def count_finished(study: Any) -> int:
    """Count the trials that ended, in whatever way."""
    return sum(trial.state.is_finished() for trial in study.trials)


def describe_study(study: Any, runner: TrialRunner, engine: str) -> dict[str, Any]:
    """Give the record of a search: its trials, the best one, and how they were scored."""
    states = Counter(trial.state.name.lower() for trial in study.trials)
    return {
        "engine": engine,
        "trials": len(study.trials),
        "states": dict(states),
        "best": {"number": study.best_trial.number, "value": study.best_value, "parameters": study.best_params},
        "metric": "balanced accuracy of held-back participants of train, less 0.001 of their log-loss",
        "held_back_participants": runner.held_back,
        "history": [
            {"number": t.number, "state": t.state.name.lower(), "value": t.value, "parameters": t.params}
            for t in study.trials
        ],
    }


def describe_trial(trial: Any) -> str:
    """Say in a line what was tried and how it went."""
    told = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in trial.params.items()}
    tried = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"{trial.state.name.lower()}, {tried}, {trial.value}"
