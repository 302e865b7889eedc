"""The same trials through Ray Tune: beside each other on a cluster, stopped by the median of the others.

They go into the same journal, so a search that was stopped goes on, by either engine. All machines must see the same
--runs (or --cache-dir), where the preprocessed volumes lie. With several trials at a time, what is suggested depends on
which ones have ended by then: the score of a trial repeats, the list of trials does not.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from classify.search.ray_engine import connect_ray, import_ray
from embeddings_store.errors import RunError
from finetune.parallel.spmd import open_trainer
from finetune.search.local_engine import STARTUP_TRIALS, WARMUP_EPOCHS
from finetune.search.study import Journal, Space, count_finished, describe_trial
from finetune.search.trial import TrialRunner

SCORE = "score"


@dataclass(frozen=True)
class RayCluster:
    """Where trials run. address: None: a cluster of Ray's own on this machine. at_once: None: one a core or GPU."""

    address: str | None = None
    at_once: int | None = None


def search_with_ray(
    journal: Journal,
    space: Space,
    runner: TrialRunner,
    cluster: RayCluster,
    *,
    trials: int,
    gpus_a_trial: int,
    tell: Callable[[str], None],
) -> Any:
    """Try until the study holds so many finished trials; give the study.

    Raises: UsageError where Ray is not installed or cannot be reached, RunError where a trial failed.
    """
    ray, tune = import_ray()
    study = journal.study()
    finished = count_finished(study)
    if finished >= trials:
        return study
    connect_ray(ray, cluster.address, cluster.at_once)
    try:
        tell(f"ray: {trials - finished} trials on {int(ray.cluster_resources().get('CPU', 1))} cores")
        with tempfile.TemporaryDirectory() as folder:
            shared = ray.put(runner)
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(train_trial, shared=[shared]), {"cpu": 1, "gpu": gpus_a_trial}
                ),
                tune_config=tune.TuneConfig(
                    metric=SCORE, mode="max", num_samples=trials - finished, max_concurrent_trials=cluster.at_once,
                    search_alg=new_searcher(journal, space), scheduler=new_scheduler(tune),
                ),
                run_config=tune.RunConfig(verbose=0, storage_path=folder),
            )  # fmt: skip
            for result in tuner.fit():
                if result.error:
                    raise RunError(
                        f"ray: a trial failed with {type(result.error).__name__}; --engine local shows where"
                    )
    finally:
        ray.shutdown()
    for trial in study.trials[finished:]:
        tell(f"trial {trial.number + 1} of {trials}: {describe_trial(trial)}")
    return study


def train_trial(config: Mapping[str, Any], shared: list[Any]) -> None:
    """Train one suggestion in a worker of the cluster. shared: where the runner lies in Ray's object store."""
    ray, tune = import_ray()
    runner: TrialRunner = ray.get(shared[0])
    recipe = runner.options.recipe
    backend = open_trainer(
        runner.options.device, bf16=recipe.precision == "bf16",
        forward_size=recipe.micro_batch_size or recipe.batch_size,
    )  # fmt: skip
    runner.score(config, backend, lambda _, score: tune.report({SCORE: score}), lambda _: None)


def new_searcher(journal: Journal, space: Space) -> Any:
    """Let Ray draw from the journal's study."""
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(
        space=space.suggest, metric=SCORE, mode="max", sampler=journal.sampler, study_name=journal.name,
        storage=journal.storage,
    )  # fmt: skip


def new_scheduler(tune: Any) -> Any:
    """Stop trials by the rule of the local engine."""
    return tune.schedulers.MedianStoppingRule(
        time_attr="training_iteration", grace_period=WARMUP_EPOCHS, min_samples_required=STARTUP_TRIALS
    )
