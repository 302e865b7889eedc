"""A training followed in a tracker: its recipe, what its epochs gave, how it ended, and nothing about people."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from classify.run.leaves import flatten
from finetune.errors import StoppedError
from finetune.model.network import MODEL_NAME
from finetune.options import FinetuneOptions
from finetune.recipe.stage_names import STAGES
from finetune.run.prepared import Prepared
from finetune.tracking.curves import FAILED, FINISHED, STOPPED, Point, TrackedRun
from finetune.tracking.mirror import Mirror
from finetune.tracking.places import Track
from finetune.training.epochs import Epoch

MEASURED = ("train_loss", "val_balanced_accuracy", "val_log_loss", "learning_rate", "encoder_learning_rate")


class Follower:
    """Tells a tracker of one training; without one it tells nobody."""

    def __init__(self, track: Track | None, tell: Callable[[str], None]) -> None:
        """Open the tracker before anything is read. Raises: UsageError naming the extra that is missing."""
        self.run_id = ""
        if track is not None:
            track.require_installed()
        self._mirror = Mirror(track, tell) if track is not None else None

    @contextmanager
    def following(self, ready: Prepared[FinetuneOptions]) -> Iterator[None]:
        """Begin the tracked run, or go on with it, and end it with the block; run_id: of the run that was published."""
        if self._mirror is None:
            yield
            return
        self._mirror.begin(describe_training_run(ready), ready.work, ready.inputs.fingerprint)
        state = FAILED
        try:
            yield
            state = FINISHED
        except StoppedError:
            state = STOPPED
            raise
        finally:
            self._mirror.end(state, {"octprobe.run": self.run_id} if self.run_id else {})

    def watch(self, history: Sequence[Epoch]) -> None:
        """Hear of the epochs so far."""
        if self._mirror is not None:
            self._mirror.watch([point_of(epoch, order) for order, epoch in enumerate(history, start=1)])


def point_of(epoch: Epoch, order: int) -> Point:
    """Give the numbers of an epoch as "stage/what"; what is absent has no number."""
    known = {name: getattr(epoch, name) for name in MEASURED}
    return Point({f"{epoch.stage}/{name}": one for name, one in known.items() if one is not None}, epoch.epoch, order)


def describe_training_run(ready: Prepared[FinetuneOptions]) -> TrackedRun:
    """Say what is trained: the recipe of the stages that are run, and tags as a finished run has them."""
    options, recipe = ready.options, ready.options.recipe.model_dump()
    others = [stage for stage in STAGES if stage not in options.stages]
    recipe["stages"] = {name: one for name, one in recipe["stages"].items() if name not in others}
    made: dict[str, Any] = {"stages": ",".join(options.stages), "seed": options.seed, "device": ready.backend.name}
    tags = {
        "octprobe.model": MODEL_NAME,
        "octprobe.task": ready.task.name,
        "octprobe.space": ready.space.id,
        "octprobe.cohort_sha256": ready.inputs.cohort.sha256,
        "octprobe.phantom": str(ready.inputs.cohort.phantom).lower(),
        "octprobe.participants": "not sent",
        "octprobe.use": "research use only, not for clinical decisions",
    }
    name = f"training {MODEL_NAME} {ready.task.name}"
    return TrackedRun("", name, {"task": ready.task.name, **dict(flatten({**made, "recipe": recipe}))}, tags)
