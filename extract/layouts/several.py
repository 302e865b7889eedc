"""Files that hold several volumes, often of both eyes: each is a row of its own, ``file#1``, ``file#2`` and so on."""

import re
from collections.abc import Sequence
from dataclasses import replace

from embeddings_store.schema import ObjectInfo, Reading
from extract.bucket.source import Source
from extract.errors import FetchError, ScanError
from extract.readers.contract import Inside, ScanFile
from extract.readers.open import volumes_in

KINDS = (".e2e", ".oct")
"""How names of files end that may hold several volumes; only the whole file tells."""

_NUMBERED = re.compile(r"(?P<key>.+)#(?P<number>[1-9]\d{0,5})", re.ASCII | re.DOTALL)


def split_number(written: str) -> tuple[str, int | None]:
    """Read "file#2": the file, and which of its volumes; None without a number."""
    match = _NUMBERED.fullmatch(written)
    return (match["key"], int(match["number"])) if match else (written, None)


def volumes_of(
    source: Source, key: str, objects: Sequence[ObjectInfo], reading: Reading
) -> list[tuple[str, Reading, Inside]]:
    """Give the row key of each volume in a scan's files, how it is read, and what the file says of it.

    A file that cannot be had or read is one volume here: its row says why. Raises: BucketError.
    """
    alone = [(key, reading, Inside())]
    if len(objects) != 1 or not key.lower().endswith(KINDS):
        return alone
    try:
        found = volumes_in([ScanFile(key, source.fetch(objects[0]).data)])
    except (FetchError, ScanError):
        return alone
    if len(found) < 2:
        return alone
    return [(f"{key}#{number}", replace(reading, volume=number), one) for number, one in enumerate(found, 1)]
