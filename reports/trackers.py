"""From ``--to`` to a tracker; a package is imported only when it is asked for, and one mirror at a time writes."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embeddings_store.errors import RunError, UsageError
from embeddings_store.terminal.console import say
from reports.mlflow_file import sqlite_file
from reports.tracking import Tracker


@contextmanager
def open_tracker(name: str, where: str, experiment: str, *, tell: Callable[[str], None] = say) -> Iterator[Tracker]:
    """Open "mlflow" (where: its tracking URI) or "wandb" (where: a local folder), and keep other mirrors out of it.

    tell: hears that another mirror is waited for. A server keeps order itself. Raises: UsageError, RunError.
    """
    if name not in TRACKERS:
        raise UsageError(f"--to: expected {' or '.join(TRACKERS)}, got {name!r}")
    lock_of, open_it = TRACKERS[name]
    with ExitStack() as held:
        if lock := lock_of(where):
            held.enter_context(_alone(lock, where, tell))
        yield open_it(where, experiment)


@contextmanager
def _alone(lock: Path, where: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock, which the system lets go of if the process dies. Raises: RunError where there can be none."""
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(lock.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"another `reports track` is writing to {where}: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise RunError(
                f"--tracking-uri {where}: expected a folder that can be written and locked, got: {error.strerror}"
            ) from error
        yield


def _lock_of_mlflow(tracking_uri: str) -> Path | None:
    file = sqlite_file(tracking_uri)
    return file.with_name(f".{file.name}.lock") if file else None


def _lock_of_wandb(folder: str) -> Path:
    return Path(folder) / "wandb" / ".octprobe.lock"


def _open_mlflow(tracking_uri: str, experiment: str) -> Tracker:
    from reports.mlflow_tracker import MlflowTracker

    return MlflowTracker(tracking_uri, experiment)


def _open_wandb(folder: str, project: str) -> Tracker:
    from reports.wandb_tracker import WandbTracker

    return WandbTracker(Path(folder), project)


TRACKERS: dict[str, tuple[Callable[[str], Path | None], Callable[[str, str], Tracker]]] = {
    "mlflow": (_lock_of_mlflow, _open_mlflow),
    "wandb": (_lock_of_wandb, _open_wandb),
}
"""By name: where its lock lies, and how it is opened."""
