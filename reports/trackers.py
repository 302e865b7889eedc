"""From ``--to`` to a tracker; a package is imported only when it is asked for."""

from collections.abc import Callable
from pathlib import Path

from embeddings_store.errors import UsageError
from reports.tracking import Tracker


def open_tracker(name: str, where: str, experiment: str) -> Tracker:
    """Open "mlflow" (where: its tracking URI) or "wandb" (where: a local folder). Raises: UsageError, RunError."""
    if name not in TRACKERS:
        raise UsageError(f"--to: expected {' or '.join(TRACKERS)}, got {name!r}")
    return TRACKERS[name](where, experiment)


def _open_mlflow(tracking_uri: str, experiment: str) -> Tracker:
    from reports.mlflow_tracker import MlflowTracker

    return MlflowTracker(tracking_uri, experiment)


def _open_wandb(folder: str, project: str) -> Tracker:
    from reports.wandb_tracker import WandbTracker

    return WandbTracker(Path(folder), project)


TRACKERS: dict[str, Callable[[str, str], Tracker]] = {"mlflow": _open_mlflow, "wandb": _open_wandb}
