"""The one place where whatever goes wrong with a volume becomes a reason, not a crash."""

from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from embeddings_store.errors import OctProbeError, VolumeError
from embeddings_store.schema import VolumeFailure, VolumeId
from extract.errors import PartOfVolume

Result = TypeVar("Result")


def attempt(stage: str, work: Callable[[], Result]) -> Result | VolumeFailure:
    """Do one volume's part of a stage, or give the reason why it has no row. Raises only what must stop the run."""
    try:
        return work()
    except VolumeError as error:
        return describe_failure(error)
    except OctProbeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place that turns any failure of a volume into a row
        return _unexpected(stage, error)


def describe_failure(error: VolumeError) -> VolumeFailure:
    """Put an error of one volume into the words of its error row."""
    whole = error.whole if isinstance(error, PartOfVolume) else VolumeId("")
    return VolumeFailure(error.stage, type(error).__name__, str(error), attempts=1, whole=whole)


def _unexpected(stage: str, error: Exception) -> VolumeFailure:
    """Name the place, but not the words: a foreign message may quote the file, and with it a patient."""
    place = extract_tb(error.__traceback__)[-1]
    message = f"unexpected {type(error).__name__} at {Path(place.filename).name}:{place.lineno}; please report it"
    return VolumeFailure(stage, type(error).__name__, message, attempts=1)
