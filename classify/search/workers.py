"""Folds in parallel: each worker process owns some folds, has one thread, and gives the same numbers as no worker."""

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from classify.model import ModelSpec
from classify.predictions import Predictions
from classify.search.scoring import FoldScorer
from classify.source import FeatureSource

PredictFolds = Callable[[ModelSpec], Generator[Predictions, None, None]]
"""Gives the held-out participants of a spec fold by fold; the caller may stop after any fold."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

_own: list[FoldScorer] = []
"""The scorer of this worker process; empty in a process that is no worker."""


@dataclass(frozen=True)
class ScorerPlan:
    """What a worker makes its scorer of; the vectors lie in a file that all workers map."""

    source: FeatureSource
    vectors: Path
    classes: int
    seed: int
    folds: int
    workers: int

    def make(self) -> FoldScorer:
        """Map the vectors and make the scorer."""
        source = replace(self.source, pooled=np.load(self.vectors, mmap_mode="r"))
        return FoldScorer(source, classes=self.classes, seed=self.seed, folds=self.folds, workers=self.workers)


@contextmanager
def open_folds(scorer: FoldScorer, jobs: int) -> Iterator[PredictFolds]:
    """Give the function that predicts fold by fold, in this process or in as many as there are jobs (folds at most).

    A fold always goes to the same worker, so its rows are prepared once.
    """
    if min(jobs, scorer.folds) < 2:
        with one_thread():
            yield lambda spec: (scorer.predict(spec, number) for number in range(scorer.folds))
        return
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        workers = min(jobs, scorer.folds)
        slots = [_open_slot(scorer, folder, workers) for _ in range(workers)]
        for slot in slots:
            opened.callback(slot.shutdown, wait=True, kill_workers=True)
        yield lambda spec: _predict_in_slots(slots, spec, scorer.folds)


def _open_slot(scorer: FoldScorer, folder: Path, workers: int) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    vectors = folder / "vectors.npy"
    if not vectors.exists():
        np.save(vectors, scorer.source.pooled)
    empty = scorer.source.pooled[:0]
    bare = FeatureSource(scorer.source.cohort, empty, scorer.source.space, scorer.source.read_tokens)
    plan = ScorerPlan(bare, vectors, scorer.classes, scorer.seed, scorer.folds, workers)
    return ProcessPoolExecutor(max_workers=1, initializer=_start_worker, initargs=(plan,), env=ONE_THREAD)


def _start_worker(plan: ScorerPlan) -> None:
    _own[:] = [plan.make()]


def _predict_own(spec: ModelSpec, number: int) -> Predictions:
    with one_thread():
        return _own[0].predict(spec, number)


def _predict_in_slots(slots: list[Any], spec: ModelSpec, folds: int) -> Generator[Predictions, None, None]:
    """Ask each worker for one fold at a time: what is asked of it cannot be taken back when the trial is stopped."""
    asked = [_ask(slots, spec, number) for number in range(min(len(slots), folds))]
    for number in range(folds):
        yield asked[number].result()
        if len(asked) < folds:
            asked.append(_ask(slots, spec, len(asked)))


def _ask(slots: list[Any], spec: ModelSpec, number: int) -> Any:
    return slots[number % len(slots)].submit(_predict_own, spec, number)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread, so that sums are made in the same order with any number of workers."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    with threadpool_limits(limits=1):
        yield
