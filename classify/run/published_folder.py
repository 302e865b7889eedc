"""What was made of several models, on disk: ``<runs>/<kind>/<id>/``, written aside and published by rename."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from classify.errors import RunFolderError
from embeddings_store.publish import published

COMPARISONS = "comparisons"
LEARNING_CURVES = "learning-curves"
TARGETS = "targets"


@contextmanager
def published_folder(runs: Path, kind: str, now: datetime) -> Iterator[tuple[Path, Path]]:
    """Give a folder aside to write into, and the one that it becomes when nothing was raised.

    Raises: RunFolderError where the folder of runs cannot be written.
    """
    place = runs / kind / f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    with ExitStack() as held:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = held.enter_context(published(place))
            aside.mkdir()
        except OSError as error:
            raise RunFolderError(
                f"--runs {runs}: expected a folder that can be written, got: {error.strerror}; choose another --runs"
            ) from error
        yield aside, place
