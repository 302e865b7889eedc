"""How the files of a store's volumes were read: kept with the store, which takes no rows of files read otherwise.

It is no part of the embedding space: volumes of another kind of file, each read as it is stored, may be compared.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from embeddings_store.errors import StoreError, UsageError
from embeddings_store.schema import Reading, VolumeRef
from embeddings_store.writer import StoreWriter
from extract.readers.read_options import FRAMES_FIRST

PATH: Final = "reading.json"


def keep_reading(writer: StoreWriter, refs: Sequence[VolumeRef]) -> None:
    """Record how the files of a run are read, where it differs from the default.

    Raises: UsageError where the store has rows of files that were read in another way; StoreError where its record is
    damaged.
    """
    asked = _words([ref.reading for ref in refs])
    known = _known(writer)
    if asked == known or not refs:
        return
    if writer.arrays.commit.written_rows(writer.storage):
        raise UsageError(
            f"--store {writer.storage.url}: its rows are of files read with {_text(known)}, this run reads with "
            f"{_text(asked)}: type the same, or take another store"
        )
    writer.storage.put(PATH, json.dumps(asked, sort_keys=True).encode())


def _words(readings: Sequence[Reading]) -> dict[str, Any]:
    """Give what differs from the default, by its option; a run has one way for all of its files."""
    one = readings[0] if readings else Reading()
    axes = list(one.axes or FRAMES_FIRST)
    told = {
        "--array": one.array,
        "--axes": None if axes == list(FRAMES_FIRST) else axes,
        "--colours": "luma" if one.to_grey else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _known(writer: StoreWriter) -> dict[str, Any]:
    data = writer.storage.get(PATH)
    try:
        found = json.loads(bytes(data)) if data is not None else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"{writer.storage.url}: {PATH} is damaged: expected named options, got other text")
    return found


def _text(words: dict[str, Any]) -> str:
    told = [f"{name} {','.join(value) if isinstance(value, list) else value}" for name, value in sorted(words.items())]
    return " ".join(told) or "no --array, --axes or --colours"
