"""Folds in parallel: each worker process has one thread, and gives the same numbers as no worker."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np

from classify.fitting.model import ModelSpec
from classify.fitting.source import FeatureSource
from classify.on_cores import one_thread
from classify.run.predictions import Predictions
from classify.search.scoring import FoldScorer
from embeddings_store.errors import RunError
from embeddings_store.publish import place_aside

TOGETHER = 4
"""Trials of a round: drawn without knowing of each other, so that workers have one each. One at a time, a second
worker could only fit the next fold of a trial that is mostly stopped before it."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""A child of this process looks for modules where they are installed: the working folder may hold a random.py."""

LOOK_S = 0.5
"""Between two looks of a worker at whether its parent lives."""

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

    with ExitStack() as held:
        try:
            folder = held.enter_context(place_aside(Path(tempfile.gettempdir()) / "octprobe-search"))
            folder.mkdir()
            plan = _write_plan(scorer, folder, jobs)
        except OSError as error:
            megabytes = scorer.source.pooled.nbytes / 1e6
            raise RunError(
                f"search: expected room for {megabytes:,.0f} MB of vectors in TMPDIR, for all workers, got: "
                f"{error.strerror or error}; set TMPDIR to a folder with room, or take --jobs 1"
            ) from error
        held.enter_context(_environment(SAFE_PATH))
        pool = ProcessPoolExecutor(
            max_workers=jobs, initializer=_start_worker, initargs=(plan, os.getpid()), env=ONE_THREAD | SAFE_PATH
        )
        try:
            yield FoldWorkers(scorer.folds, jobs, lambda spec, number: _ask(pool, spec, number))
        finally:
            pool.shutdown(wait=True, kill_workers=True)


def _ask(pool: Executor, spec: ModelSpec, number: int) -> Callable[[], Predictions]:
    with _as_run_error():
        future: Future[Predictions] = pool.submit(_predict_own, spec, number)

    def wait() -> Predictions:
        with _as_run_error():
            return future.result()

    return wait


@contextmanager
def _as_run_error() -> Iterator[None]:
    """Say in the words of the house that a worker is gone."""
    try:
        yield
    except BrokenProcessPool as error:
        words = " ".join(str(error).split())
        raise RunError(f"search: a worker process ended by itself: {words} Try --jobs 1, which shows where") from error


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the children that start meanwhile, loky's own tracker among them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _write_plan(scorer: FoldScorer, folder: Path, workers: int) -> ScorerPlan:
    vectors = folder / "vectors.npy"
    np.save(vectors, scorer.source.pooled)
    source = scorer.source
    cohort = replace(source.cohort, thumbnails=None)  # as large as the vectors, and no head asks for them
    bare = FeatureSource(cohort, source.pooled[:0], source.space, source.read_tokens)
    return ScorerPlan(bare, vectors, scorer.classes, scorer.seed, scorer.folds, workers)


def _start_worker(plan: ScorerPlan, parent: int) -> None:
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    _own[:] = [plan.make()]


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _predict_own(spec: ModelSpec, number: int) -> Predictions:
    with one_thread():
        return _own[0].predict(spec, number)
