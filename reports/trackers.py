"""From ``--to`` to a tracker; a package is imported only when it is asked for, and one mirror at a time writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say
from finetune.tracking.places import Track, TrackerName, alone_at
from reports.tracking import Tracker


@contextmanager
def open_tracker(name: str, where: str, experiment: str, *, tell: Callable[[str], None] = say) -> Iterator[Tracker]:
    """Open "mlflow" (where: its tracking URI) or "wandb" (where: a local folder), and keep other mirrors out of it.

    tell: hears that another mirror is waited for. Raises: UsageError, RunError.
    """
    if name not in TRACKERS:
        raise UsageError(f"--to: expected {' or '.join(TRACKERS)}, got {name!r}")
    to: TrackerName = "wandb" if name == "wandb" else "mlflow"
    with alone_at(Track(to, where), tell):
        yield TRACKERS[name](where, experiment)


def _open_mlflow(tracking_uri: str, experiment: str) -> Tracker:
    from reports.mlflow_tracker import MlflowTracker

    return MlflowTracker(tracking_uri, experiment)


def _open_wandb(folder: str, project: str) -> Tracker:
    from reports.wandb_tracker import WandbTracker

    return WandbTracker(Path(folder), project)


TRACKERS: dict[str, Callable[[str, str], Tracker]] = {"mlflow": _open_mlflow, "wandb": _open_wandb}
