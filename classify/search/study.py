"""A study that can be continued: Optuna's journal in a folder that is named by everything that its numbers depend on.

Trial n's suggestions depend on the seed, n and the trials before its round, and on nothing else, so a study that was
cut off and continued is the study that ran through, on however many workers.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from classify.errors import RunFolderError
from classify.search.spaces import Among, Range, SearchSpace
from embeddings_store.errors import UsageError

STUDIES = "studies"
JOURNAL = "search.journal"
FACTS = "study.json"
_LOCK = ".lock"

TOGETHER = 4
"""Trials of a round: suggested without knowing of each other, so that workers have one each. One at a time, a second
worker could only fit the next fold of a trial that is mostly stopped before it."""

STARTUP_TRIALS = 10
"""Drawn at random before TPE models anything."""


@dataclass(frozen=True)
class Tried:
    """One finished trial: what it was, its score over all folds (None: pruned), and its score after each fold."""

    parameters: dict[str, Any]
    layer: str
    pools: str
    aggregation: str
    value: float | None
    after_folds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "parameters": self.parameters,
            "features": {"layer": self.layer, "pools": self.pools.split(",") if self.pools else []},
            "aggregation": self.aggregation,
            "value": self.value,
            "state": "complete" if self.value is not None else "pruned",
            "after_folds": list(self.after_folds),
        }


def study_folder(runs: Path, facts: Mapping[str, Any]) -> Path:
    """Name the folder of a study by what its numbers depend on."""
    return runs / STUDIES / sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def hold_study(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder, write down what it is of, and keep others out of it.

    Raises: RunFolderError where it cannot be written, UsageError where another process is searching in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True))
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise RunFolderError(f"{folder}: expected a folder that can be written, got: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"study {folder.name}: another process is searching in it; wait for it, or choose another --seed"
            ) from error
        yield


class Study:
    """Optuna's study of one space, opened from its journal."""

    def __init__(self, folder: Path, space: SearchSpace, *, seed: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed, self.states = space, seed, optuna.trial.TrialState
        self._study = optuna.create_study(
            study_name="search",
            direction="maximize",
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            sampler=optuna.samplers.RandomSampler(),  # never asked: what is tried comes from _suggest
            pruner=optuna.pruners.NopPruner(),  # run_trials stops trials itself
            load_if_exists=True,
        )
        for dead in self._study.get_trials(states=(self.states.RUNNING, self.states.WAITING)):
            self._study.tell(dead.number, state=self.states.FAIL)

    def tried(self) -> list[Tried]:
        """List the finished trials, oldest first."""
        return [_read(one, self.space, complete=one.state == self.states.COMPLETE) for one in self._finished()]

    def ask(self, number: int) -> Any:
        """Begin trial ``number`` (of the finished ones); the first takes the head's defaults."""
        self._study.enqueue_trial(self._suggest(number))
        trial = self._study.ask()
        suggest(trial, self.space)
        return trial

    def _suggest(self, number: int) -> dict[str, Any]:
        """Suggest in a study that holds what this trial may know of, and nothing else."""
        import optuna

        own_seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        known = optuna.create_study(direction="maximize", sampler=make_sampler(own_seed, constant_liar=False))
        known.add_trials(self._finished()[: number - number % TOGETHER])
        if number == 0:
            known.enqueue_trial(self.space.defaults())
        trial = known.ask()
        suggest(trial, self.space)
        return dict(trial.params)

    def _finished(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=(self.states.COMPLETE, self.states.PRUNED))

    def tell(self, trial: Any, value: float | None) -> None:
        """End a trial: its score over all folds, or None where it was pruned."""
        self._study.tell(trial, value, state=self.states.COMPLETE if value is not None else self.states.PRUNED)


def make_sampler(seed: int, *, constant_liar: bool) -> Any:
    """Make the TPE of both engines. constant_liar: trials that still run count as bad ones, so that others differ."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=constant_liar)


def suggest(trial: Any, space: SearchSpace) -> None:
    """Let an Optuna trial draw a value of every range, and of all names where there are several."""
    for name, one in space.ranges.items():
        _suggest_number(trial, name, one)
    for name, values in space.names.items():
        if len(values) > 1:
            trial.suggest_categorical(name, values)


def _suggest_number(trial: Any, name: str, one: Range | Among) -> None:
    if isinstance(one, Among):
        trial.suggest_categorical(name, one.numbers)
        return
    kind, low, high = one
    if kind.endswith("int"):
        trial.suggest_int(name, int(low), int(high), log=kind.startswith("log"))
    else:
        trial.suggest_float(name, low, high, log=kind == "log")


def read_choice(params: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Split what was suggested into the head's parameters and the names; a lone name was never asked for."""
    named = {name: params.get(name, values[0]) for name, values in space.names.items()}
    return {"parameters": {name: params[name] for name in space.ranges}, **named}


def _read(trial: Any, space: SearchSpace, *, complete: bool) -> Tried:
    scores = tuple(float(trial.intermediate_values[step]) for step in sorted(trial.intermediate_values))
    value = float(trial.value) if complete else None
    return Tried(**read_choice(trial.params, space), value=value, after_folds=scores)
