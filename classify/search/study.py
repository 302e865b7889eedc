"""A study that can be continued: Optuna's trials in a journal, each drawn from what stands there already.

Trial n's suggestions depend on the seed, n and the trials before its round, and on nothing else, so a study that was
cut off and continued is the study that ran through, on however many workers. A trial is written when it has ended, in
one line: what a killed process had begun leaves nothing behind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from classify.search.journal import hold_study, mend_journal, open_journal
from embeddings_store.errors import RunError


@dataclass(frozen=True)
class Drawing:
    """How the trials of a study are drawn.

    draw: lets an Optuna trial draw a value for everything. first: what trials 0, 1 and so on take. startup: trials
    drawn at random before TPE models anything. together: trials of a round, which know nothing of each other.
    """

    draw: Callable[[Any], None]
    seed: int
    first: Sequence[Mapping[str, Any]] = ()
    startup: int = 10
    together: int = 1
    pruner: Any = None


class Study:
    """The trials of one search."""

    def __init__(self, journal: Path, name: str, drawing: Drawing) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.journal, self.drawing, self._states = journal, drawing, optuna.trial.TrialState
        storage = open_journal(journal)
        names = [found.study_name for found in optuna.get_all_study_summaries(storage)]
        if names not in ([], [name]):
            raise RunError(
                f"--study {journal.parent}: it belongs to another search (other data, encoder or recipe); "
                "choose another"
            )
        begin = optuna.load_study if names else partial(optuna.create_study, direction="maximize")
        # Its sampler and pruner are never asked: see ask.
        self._kept = begin(
            study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(), pruner=optuna.pruners.NopPruner()
        )

    def finished(self) -> list[Any]:
        """List the trials that were scored or pruned, oldest first."""
        found: list[Any] = self._kept.get_trials(deepcopy=False, states=(self._states.COMPLETE, self._states.PRUNED))
        return found

    def complete(self, trial: Any) -> bool:
        """Say whether a finished trial was scored, not pruned."""
        return bool(trial.state == self._states.COMPLETE)

    def best(self) -> Any:
        """Return the trial with the highest score; of equals the first. Raises: RunError where none has a score."""
        finished = self.finished()
        scored = [trial for trial in finished if self.complete(trial)]
        if not scored:
            raise RunError(f"search: expected a score from at least one of {len(finished)} trials, got none")
        return max(scored, key=lambda trial: trial.value)

    def ask(self, number: int) -> Any:
        """Draw trial ``number`` (of the finished ones) in a study that holds what it may know of, and nothing else."""
        import optuna

        one = self.drawing
        own_seed = int(np.random.SeedSequence([one.seed, number]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=one.startup)
        known = optuna.create_study(
            direction="maximize", sampler=sampler, pruner=one.pruner or optuna.pruners.NopPruner()
        )
        known.add_trials(self.finished()[: number - number % one.together])
        if number < len(one.first):
            known.enqueue_trial(dict(one.first[number]))
        trial = known.ask()
        one.draw(trial)
        return trial

    def end(self, trial: Any, value: float | None) -> Any:
        """Keep a trial with its score, or as pruned where it has none that is a number."""
        scored = value is not None and isfinite(value)
        state = self._states.COMPLETE if scored else self._states.PRUNED
        ended = trial.study.tell(trial, value if scored else None, state=state)
        self._kept.add_trial(ended)
        return ended


@contextmanager
def open_study(journal: Path, name: str, drawing: Drawing, tell: Callable[[str], None]) -> Iterator[Study]:
    """Hold the folder of a journal, and go on from its last whole trial.

    Raises: RunFolderError, UsageError where another process is searching there, RunError for another search's journal.
    """
    with hold_study(journal.parent):
        cut = mend_journal(journal)
        study = Study(journal, name, drawing)
        if cut:
            tell(
                f"study {journal.parent.name}: the last {cut:,} bytes of its journal were not whole and were cut off; "
                f"{len(study.finished())} trials are left"
            )
        yield study
