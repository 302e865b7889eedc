"""What was made of several models, on disk: ``<runs>/<kind>/<id>/``, written aside and published by rename."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from classify.errors import RunFolderError

COMPARISONS = "comparisons"
LEARNING_CURVES = "learning-curves"


@contextmanager
def published_folder(runs: Path, kind: str, now: datetime) -> Iterator[tuple[Path, Path]]:
    """Give a folder aside to write into, and the one that it becomes when nothing was raised.

    Raises: RunFolderError where the folder of runs cannot be written.
    """
    place = runs / kind / f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    aside = place.with_name(f".{place.name}.tmp")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise RunFolderError(
            f"--runs {runs}: expected a folder that can be written, got: {error.strerror}; choose another --runs"
        ) from error
    try:
        yield aside, place
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
