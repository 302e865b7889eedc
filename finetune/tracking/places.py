"""Which tracker, and where: what the options say, and one mirror at a time where a file or folder is written."""

import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from embeddings_store.addresses import require_plain_word
from embeddings_store.errors import RunError, UsageError
from embeddings_store.extras import describe_missing
from embeddings_store.terminal.console import say
from finetune.tracking.mlflow_file import sqlite_file

TrackerName = Literal["mlflow", "wandb"]

DEFAULT_PLACES: dict[TrackerName, str] = {"mlflow": "sqlite:///mlflow.db", "wandb": "."}
EXPERIMENT = "octprobe"
_MLFLOW = re.compile(r"(?:sqlite|https?|postgresql|mysql|mssql)(?:\+\w+)?://.+")


@dataclass(frozen=True, slots=True)
class Track:
    """One tracker. where: MLflow's tracking URI, or W&B's local folder."""

    to: TrackerName
    where: str

    def __post_init__(self) -> None:
        require_plain_word(self.where, "--track", UsageError)

    def require_installed(self) -> None:
        """Refuse, before anything else is done, what no package here can write. Raises: UsageError naming the extra.

        Nothing is imported: MLflow would call home before it is kept from it.
        """
        if find_spec(self.to) is None:
            missing = describe_missing(ModuleNotFoundError(name=self.to))
            raise UsageError(f"--track {self}: {missing}")

    def __str__(self) -> str:
        return self.where if self.to == "mlflow" else f"wandb:{self.where}"


def parse_track(text: str) -> Track:
    """Read mlflow or its tracking URI, wandb or wandb:FOLDER. Raises: UsageError."""
    name, _, folder = text.partition(":")
    if text == "mlflow" or _MLFLOW.fullmatch(text):
        return Track("mlflow", DEFAULT_PLACES["mlflow"] if text == "mlflow" else text)
    if name == "wandb" and not folder.startswith("//"):
        return Track("wandb", folder or DEFAULT_PLACES["wandb"])
    raise UsageError(
        "--track: expected mlflow, an MLflow tracking URI such as sqlite:///mlflow.db or http://127.0.0.1:5000, wandb, "
        f"or wandb:FOLDER, got {text!r}"
    )


@contextmanager
def alone_at(track: Track, tell: Callable[[str], None] = say) -> Iterator[None]:
    """Keep other mirrors out; the system lets go of the lock if the process dies. A server keeps order itself.

    tell: hears that another mirror is waited for. Raises: RunError where there can be no lock.
    """
    lock = _lock_of(track)
    with ExitStack() as held:
        try:
            if lock:
                lock.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(lock.open("a"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    tell(f"another `reports track` is writing to {track.where}: waiting for it")
                    fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise RunError(
                f"the tracker at {track.where}: expected a folder that can be written and locked, got: {error.strerror}"
            ) from error
        yield


def _lock_of(track: Track) -> Path | None:
    if track.to == "wandb":
        return Path(track.where) / "wandb" / ".octprobe.lock"
    file = sqlite_file(track.where)
    return file.with_name(f".{file.name}.lock") if file else None
