"""MLflow's records in a sqlite file: made whole or not at all, and its artifacts beside it."""

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from embeddings_store.publish import published

ARTIFACTS = "mlartifacts"


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the file of a sqlite tracking URI; None for a server, another database, or one in memory."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///(?!:memory:|file:)([^?]+)(?:\?.*)?", tracking_uri)
    return Path(found[1]).resolve() if found else None


def artifacts_beside(tracking_uri: str) -> str | None:
    """Put artifacts beside a sqlite file; elsewhere MLflow's own place is right."""
    file = sqlite_file(tracking_uri)
    return (file.parent / ARTIFACTS).as_uri() if file else None


def make_database(file: Path) -> None:
    """Make MLflow's tables where there are none: aside, then in place by one rename.

    MLflow makes them in a hundred steps; a database that was left between two of them is never usable again.
    Raises: OSError, and what MLflow raises.
    """
    if file.exists() and file.stat().st_size:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore  # MLflow types some of itself
    with published(file) as aside:
        store(f"sqlite:///{aside}", (file.parent / ARTIFACTS).as_uri()).engine.dispose()


def drop_artifacts(location: str, copy_id: str) -> None:
    """Delete the files of half a copy, if they are in a local folder of its own; MLflow only marks it as deleted.

    Raises: OSError.
    """
    place = _folder_at(location)
    if place is not None and place.parent.name == copy_id and place.parent.is_dir():
        shutil.rmtree(place.parent)


def _folder_at(location: str) -> Path | None:
    return Path(url2pathname(urlsplit(location).path)) if location.startswith("file:") else None


def lost_artifacts(location: str, tracking_uri: str) -> Path | None:
    """Return where an experiment of ours keeps its artifacts, if its folder was moved away from there."""
    place = _folder_at(location)
    if place is None:
        return None
    lost = place.name == ARTIFACTS and place.as_uri() != artifacts_beside(tracking_uri) and not place.is_dir()
    return place if lost else None
