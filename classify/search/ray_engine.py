"""The same search through Ray Tune: trials run beside each other on a cluster, the folds of a trial one after another.

With one trial at a time, the suggestions depend on the seed alone. With several, a suggestion also depends on which
trials happened to be finished by then: the numbers of a trial repeat, the list of trials does not. Nothing is pruned,
and no study is continued.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any

from classify.run.predictions import Predictions
from classify.search.scoring import FoldScorer, running_score
from classify.search.spaces import SearchSpace
from classify.search.study import Tried, make_sampler, read_choice, suggest
from classify.search.workers import one_thread
from embeddings_store.errors import RunError, UsageError

SCORE = "score"
AFTER_FOLDS = "after_folds"
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def search_with_ray(
    scorer: FoldScorer,
    space: SearchSpace,
    *,
    trials: int,
    seed: int,
    address: str | None,
    tell: Callable[[str], None],
    at_once: int | None = None,
) -> list[Tried]:
    """Give ``trials`` trials, in the order in which they were suggested.

    address: of a running cluster; None uses Ray's own default, a cluster on this machine. at_once: most trials at a
    time, None: as many as the cluster has cores. Raises: UsageError where Ray is not installed or cannot be reached.
    """
    ray, tune = import_ray()
    connect_ray(ray, address, at_once)
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        together = min(at_once or cores, cores)
        tell(f"ray: {trials} trials, {together} at a time")
        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                tune.with_resources(partial(report_score, shared=ray.put(scorer), space=space), {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    metric=SCORE, mode="max", num_samples=trials, search_alg=_make_searcher(space, seed, together),
                    max_concurrent_trials=together,
                ),
                run_config=tune.RunConfig(verbose=0, storage_path=folder),
            )  # fmt: skip
            return [_read(result, space) for result in tuner.fit()]
    finally:
        ray.shutdown()


def import_ray() -> tuple[Any, Any]:
    """Give ray and ray.tune. Raises: UsageError that names the extra where they are not installed."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise UsageError(
            "--engine ray: Ray Tune is not installed; install octprobe[ray], or use --engine local"
        ) from error
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return ray, tune


def report_score(config: Mapping[str, Any], *, shared: Any, space: SearchSpace) -> None:
    """Score one suggestion in a worker of the cluster. shared: where the scorer lies in Ray's object store."""
    ray, tune = import_ray()
    scorer = ray.get(shared)
    scores = score_folds(scorer, space, config)
    whole = len(scores) == scorer.folds
    tune.report({SCORE: scores[-1] if whole else 0.0, AFTER_FOLDS: list(scores)})


def score_folds(scorer: FoldScorer, space: SearchSpace, params: Mapping[str, Any]) -> tuple[float, ...]:
    """Score one choice fold by fold; shorter than the number of folds where a head gave no numbers."""
    spec = space.spec(**read_choice(params, space))
    parts: list[Predictions] = []
    scores: list[float] = []
    with one_thread():
        for number in range(scorer.folds):
            parts.append(scorer.predict(spec, number))
            score = running_score(parts)
            if not isfinite(score):
                break
            scores.append(score)
    return tuple(scores)


def connect_ray(ray: Any, address: str | None, at_once: int | None) -> None:
    """Join a running cluster, or start one here. Raises: UsageError where none answers."""
    size = {} if address or at_once is None else {"num_cpus": at_once}
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR", **size)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"--ray-address: expected the address of a running Ray cluster, got {address!r}: {error}"
        ) from error


def _make_searcher(space: SearchSpace, seed: int, together: int) -> Any:
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(
        space=partial(suggest, space=space),
        metric=SCORE,
        mode="max",
        sampler=make_sampler(seed, constant_liar=together > 1),
        points_to_evaluate=[space.defaults()],
    )


def _read(result: Any, space: SearchSpace) -> Tried:
    if result.error:
        raise RunError(f"ray: a trial failed with {type(result.error).__name__}; --engine local shows where")
    scores = tuple(result.metrics[AFTER_FOLDS])
    complete = result.metrics[SCORE] == (scores[-1] if scores else None)
    return Tried(**read_choice(result.config, space), value=scores[-1] if complete else None, after_folds=scores)
