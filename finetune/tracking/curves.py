"""The curves of a training that is under way: what a tracker hears of it, and how MLflow and W&B keep it.

::

    CurveKeeper   the seam: MlflowCurves, WandbCurves, and a fake in the tests
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from classify.run.summary import RESEARCH_ONLY
from finetune.tracking.mlflow_client import batches, keep_parameters, open_experiment, quiet_mlflow
from finetune.tracking.places import EXPERIMENT, Track, alone_at
from finetune.tracking.wandb_client import quiet_wandb, settings_of

LAST_WAIT_S, STOPPING_WAIT_S = 90.0, 5.0
"""How long a finished training waits for what is still to be sent, and one that was stopped."""

TRAINING_TAG = "octprobe.training"
RUNNING = "RUNNING"
FINISHED, STOPPED, FAILED = "FINISHED", "KILLED", "FAILED"
"""How a training ended, in MLflow's words."""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A training. token: names its one tracked run, however often it is resumed. parameters: numbers of the recipe."""

    token: str
    name: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """What one epoch gave. step: epoch of its stage; order: epoch of the run, from 1; time_ms: since 1970, or 0."""

    metrics: Mapping[str, float]
    step: int
    order: int
    time_ms: int = 0


@runtime_checkable
class CurveKeeper(Protocol):
    """Keeps one tracked run. Every call may raise RunError; a point that comes again is kept once."""

    def begin(self, run: TrackedRun) -> bool:
        """Go on with the run of this token, or make it; say whether it was made."""
        ...

    def add(self, points: Sequence[Point]) -> None:
        """Store what epochs gave."""
        ...

    def end(self, state: str, tags: Mapping[str, str]) -> None:
        """Say how the training ended: FINISHED, STOPPED or FAILED."""
        ...


class MlflowCurves:
    """A run of an MLflow experiment. MLflow keeps a number of the same name, step and time once."""

    def __init__(self, track: Track) -> None:
        with alone_at(track):
            self._client, self._experiment = open_experiment(track.where, EXPERIMENT)
        self._id = ""

    def begin(self, run: TrackedRun) -> bool:
        """Look for the token among the experiment's runs."""
        with quiet_mlflow() as mlflow:
            found = self._client.search_runs([self._experiment], f"tags.`{TRAINING_TAG}` = '{run.token}'")
            if found:
                self._id = found[0].info.run_id
                self._client.update_run(self._id, status=RUNNING)
                return False
            tags = {TRAINING_TAG: run.token, **run.tags}
            self._id = self._client.create_run(self._experiment, run_name=run.name, tags=tags).info.run_id
            keep_parameters(self._client, mlflow.entities, self._id, run.parameters)
            return True

    def add(self, points: Sequence[Point]) -> None:
        """Send them in batches."""
        with quiet_mlflow() as mlflow:
            for part in batches(
                mlflow.entities.Metric(name, value, point.time_ms, point.step)
                for point in points
                for name, value in point.metrics.items()
            ):
                self._client.log_batch(self._id, metrics=part)

    def end(self, state: str, tags: Mapping[str, str]) -> None:
        """Close the run."""
        with quiet_mlflow():
            for name, value in tags.items():
                self._client.set_tag(self._id, name, value)
            self._client.set_terminated(self._id, status=state)


class WandbCurves:
    """A W&B run. A resumed training goes on under its id; offline, its files of both times are synced into one."""

    def __init__(self, track: Track) -> None:
        self._folder = Path(track.where).resolve()
        self._run: Any = None
        with quiet_wandb(self._folder):
            (self._folder / "wandb").mkdir(parents=True, exist_ok=True)  # where it cannot, W&B would silently move on

    def begin(self, run: TrackedRun) -> bool:
        """Start W&B's own process; whether the server knows the run, it does not say offline."""
        with quiet_wandb(self._folder) as wandb:
            settings = settings_of(wandb, self._folder, "finetune")
            # Of later versions, which would wait for ever for a server that is gone.
            if hasattr(settings, "finish_timeout"):
                settings.finish_timeout, settings.finish_timeout_raises = LAST_WAIT_S, True
            self._run = wandb.init(
                project=EXPERIMENT, id=run.token, name=run.name, config={**run.parameters, **run.tags}, resume="allow",
                notes=RESEARCH_ONLY, settings=settings,
            )  # fmt: skip
        return False

    def add(self, points: Sequence[Point]) -> None:
        """Log them; W&B leaves out a step that it has."""
        with quiet_wandb(self._folder):
            for point in points:
                self._run.log({**point.metrics, "epoch": point.step}, step=point.order)

    def end(self, state: str, tags: Mapping[str, str]) -> None:
        """Close the run, and wait until everything is on the disk, or sent."""
        with quiet_wandb(self._folder) as wandb:
            self._run.config.update(dict(tags), allow_val_change=True)
            self._run.finish(exit_code=0 if state == FINISHED else 1)
            wandb.teardown()


def open_curves(track: Track) -> CurveKeeper:
    """Open a tracker for the curves of a training. Raises: RunError."""
    return MlflowCurves(track) if track.to == "mlflow" else WandbCurves(track)
