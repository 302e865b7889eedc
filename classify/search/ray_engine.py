"""The trials of a study on a Ray cluster, through Ray Tune: beside each other, drawn and kept as the local ones are.

With one trial at a time, the suggestions depend on the seed alone. With several, a suggestion also depends on which
trials have ended by then: the score of a trial repeats, the list of trials does not.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classify.search.study import Study
from embeddings_store.errors import RunError, UsageError
from embeddings_store.extras import require
from embeddings_store.publish import place_aside

SCORE, SCORES, WHOLE = "score", "scores", "whole"
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

Report = Callable[[Mapping[int, float], bool], None]
"""Takes new scores of a trial by step, and whether the trial may end with the last of them as its value."""

Attempt = Callable[[Any, Mapping[str, Any], Report], None]
"""Makes one trial in a worker of the cluster: what all trials share, what was suggested, and where scores go."""


@dataclass(frozen=True)
class TuneCluster:
    """Where trials run. address: None: a cluster of Ray's own on this machine. at_once: None: one a core."""

    address: str | None = None
    at_once: int | None = None
    gpus_a_trial: int = 0


def search_with_ray(
    study: Study,
    attempt: Attempt,
    shared: Any,
    cluster: TuneCluster,
    *,
    trials: int,
    tell: Callable[[str], None],
    scheduler: Callable[[Any], Any] | None = None,
) -> None:
    """Try until the study holds so many finished trials. scheduler: makes a rule of ray.tune's that stops trials.

    Raises: UsageError where Ray is not installed or cannot be reached, RunError where a trial failed.
    """
    ray, tune = import_ray()
    finished = len(study.finished())
    if finished >= trials:
        return
    connect_ray(ray, cluster.address, cluster.at_once)
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        together = min(cluster.at_once or cores, cores)
        tell(f"ray: {trials - finished} trials, {together} at a time")
        with place_aside(Path(tempfile.gettempdir()) / "octprobe-ray") as folder:
            trainable = tune.with_parameters(run_attempt, attempt=attempt, shared=[ray.put(shared)])
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": 1, "gpu": cluster.gpus_a_trial}),
                tune_config=tune.TuneConfig(
                    metric=SCORE, mode="max", num_samples=trials - finished, max_concurrent_trials=together,
                    search_alg=_make_searcher(study), scheduler=scheduler(tune) if scheduler else None,
                ),
                run_config=tune.RunConfig(verbose=0, storage_path=str(folder)),
            )  # fmt: skip
            failed = [result.error for result in tuner.fit() if result.error]
    finally:
        ray.shutdown()
    if failed:
        raise RunError(f"ray: a trial failed with {type(failed[0]).__name__}; --engine local shows where")


def import_ray() -> tuple[Any, Any]:
    """Give ray and ray.tune. Raises: UsageError that names the extra where they are not installed."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    what = "--engine ray, instead of --engine local"
    return require("ray", what), require("ray.tune", what)


def run_attempt(config: Mapping[str, Any], attempt: Attempt, shared: list[Any]) -> None:
    """Make one trial in a worker of the cluster. shared: where the trials' common things lie in Ray's object store."""
    ray, tune = import_ray()

    def report(scores: Mapping[int, float], whole: bool) -> None:
        tune.report({SCORE: list(scores.values())[-1] if scores else 0.0, SCORES: list(scores.items()), WHOLE: whole})

    attempt(ray.get(shared[0]), config, report)


def connect_ray(ray: Any, address: str | None, at_once: int | None) -> None:
    """Join a running cluster, or start one here. Raises: UsageError where none answers."""
    size = {} if address or at_once is None else {"num_cpus": at_once}
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR", **size)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"--ray-address: expected the address of a running Ray cluster, got {address!r}: {error}"
        ) from error


@dataclass
class _Drawn:
    """The trials that Ray has under way, by its names for them."""

    study: Study
    number: int
    under_way: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def suggest(self, name: str) -> dict[str, Any]:
        trial = self.under_way[name] = self.study.ask(self.number)
        self.number += 1
        return dict(trial.params)

    def hear(self, name: str, result: Mapping[str, Any]) -> None:
        """Take scores; Ray brings the last ones twice, or once where a scheduler stops the trial by them."""
        for step, score in result.get(SCORES, ()):
            if step > self.steps.get(name, -1):
                self.under_way[name].report(score, step)
                self.steps[name] = step

    def end(self, name: str, result: Mapping[str, Any], *, failed: bool) -> None:
        self.hear(name, result)
        trial = self.under_way.pop(name)
        if not failed:
            self.study.end(trial, result.get(SCORE) if result.get(WHOLE) else None)


def _make_searcher(study: Study) -> Any:
    """Let Ray draw from a study, and the study keep what ended."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):
        def __init__(self, drawn: _Drawn) -> None:
            super().__init__(metric=SCORE, mode="max")
            self.drawn = drawn

        def __reduce__(self) -> tuple[Any, ...]:
            return dict, ()  # what Ray saves of it is never read: the journal is what survives

        def suggest(self, trial_id: str) -> dict[str, Any]:
            return self.drawn.suggest(trial_id)

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            self.drawn.hear(trial_id, result)

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            self.drawn.end(trial_id, result or {}, failed=error)

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            pass

    return StudySearcher(_Drawn(study, len(study.finished())))
