"""Folds in parallel: each worker process has one thread, and gives the same numbers as no worker."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classify.fitting.model import ModelSpec
from classify.fitting.source import FeatureSource
from classify.run.predictions import Predictions
from classify.search.scoring import FoldScorer
from classify.search.study import TOGETHER

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

_own: list[FoldScorer] = []
"""The scorer of this worker process; empty in a process that is no worker."""


@dataclass(frozen=True)
class FoldWorkers:
    """Who predicts folds. workers: how many at once. ask(spec, number): gives what waits for the held-out participants.

    What was asked of a worker process cannot be taken back; in this process a fold is fitted when it is waited for.
    """

    folds: int
    workers: int
    ask: Callable[[ModelSpec, int], Callable[[], Predictions]]


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
def open_folds(scorer: FoldScorer, jobs: int) -> Iterator[FoldWorkers]:
    """Predict folds in this process, or in as many as there are jobs (and work for them)."""
    jobs = min(jobs, TOGETHER * scorer.folds)
    if jobs < 2:
        with one_thread():
            yield FoldWorkers(scorer.folds, 1, lambda spec, number: lambda: scorer.predict(spec, number))
        return
    from joblib.externals.loky import ProcessPoolExecutor

    with tempfile.TemporaryDirectory() as folder:
        plan = _write_plan(scorer, Path(folder), jobs)
        pool = ProcessPoolExecutor(max_workers=jobs, initializer=_start_worker, initargs=(plan,), env=ONE_THREAD)
        try:
            yield FoldWorkers(scorer.folds, jobs, lambda spec, number: pool.submit(_predict_own, spec, number).result)
        finally:
            pool.shutdown(wait=True, kill_workers=True)


def _write_plan(scorer: FoldScorer, folder: Path, workers: int) -> ScorerPlan:
    vectors = folder / "vectors.npy"
    np.save(vectors, scorer.source.pooled)
    source = scorer.source
    cohort = replace(source.cohort, thumbnails=None)  # as large as the vectors, and no head asks for them
    bare = FeatureSource(cohort, source.pooled[:0], source.space, source.read_tokens)
    return ScorerPlan(bare, vectors, scorer.classes, scorer.seed, scorer.folds, workers)


def _start_worker(plan: ScorerPlan) -> None:
    _own[:] = [plan.make()]


def _predict_own(spec: ModelSpec, number: int) -> Predictions:
    with one_thread():
        return _own[0].predict(spec, number)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread, so that sums are made in the same order with any number of workers."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    with threadpool_limits(limits=1):
        yield
