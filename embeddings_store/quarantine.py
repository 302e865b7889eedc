"""Quarantine: volumes that failed, one JSON record each, so that the next run does not try them again unasked.

A record that is lifted is kept beside, under another name: the row is missing again, and its tries go on being counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from embeddings_store.checksums import seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import StoreError
from embeddings_store.schema import VolumeFailure, VolumeId
from embeddings_store.storage import Storage, concurrently

FOLDER = "errors"
_RECORD = re.compile(rf"{FOLDER}/(?P<row>[0-9]+)(?P<lifted>\.lifted)?\.json")


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """Why a row has no vectors, when it was tried, by which worker and with which versions.

    Of an object that is a part of another one's volume, that is no failure (``failure.whole``).
    """

    row: int
    failure: VolumeFailure
    time_ns: int
    worker: int
    versions: Mapping[str, str]


def put_error(storage: Storage, record: QuarantinedRow) -> None:
    """Write errors/<row>.json; the attempts of a record that was lifted, or lies there still, are added to its own."""
    before = _attempts_before(storage, record.row)
    failure = replace(record.failure, attempts=record.failure.attempts + before)
    _put(storage, error_path(record.row), replace(record, failure=failure))
    storage.delete(lifted_path(record.row))


def _attempts_before(storage: Storage, row: int) -> int:
    bodies = (storage.get(path) for path in (error_path(row), lifted_path(row)))
    return max((_parse(bytes(body), storage).failure.attempts for body in bodies if body is not None), default=0)


def _put(storage: Storage, path: str, record: QuarantinedRow) -> None:
    whole = {"whole": record.failure.whole} if record.failure.whole else {}
    fields = {
        "row": record.row,
        **{name: value for name, value in asdict(record.failure).items() if name != "whole"},
        **whole,
        "time_ns": record.time_ns,
        "worker": str(record.worker),
        "versions": dict(record.versions),
    }
    storage.put(path, sealed_json(fields))


def quarantined_rows(storage: Storage) -> set[int]:
    """List the rows that have an error record which is not lifted."""
    return {row for row, is_lifted in failed_rows(storage) if not is_lifted}


def failed_rows(storage: Storage) -> set[tuple[int, bool]]:
    """List the rows that have a record, and whether it is lifted."""
    found = (_RECORD.fullmatch(path) for path in storage.list_paths(FOLDER))
    return {(int(name["row"]), name["lifted"] is not None) for name in found if name}


def read_errors(storage: Storage, rows: set[int]) -> list[QuarantinedRow]:
    """Read the error records of rows, sorted by row; one that went away meanwhile (the row succeeded) is left out."""
    found = concurrently(lambda row: storage.get(error_path(row)), sorted(rows))
    return [_parse(bytes(body), storage) for body in found if body is not None]


def lift_errors(storage: Storage, records: Sequence[QuarantinedRow]) -> None:
    """Put records aside, so that their rows are missing again; to be cut off in between, or done twice, is harmless."""

    def lift(record: QuarantinedRow) -> None:
        _put(storage, lifted_path(record.row), record)
        storage.delete(error_path(record.row))

    for _ in concurrently(lift, records):
        pass


def forget_error(storage: Storage, row: int) -> None:
    """Delete what is known of a row's failures: it succeeded, or is another object now."""
    storage.delete(error_path(row))
    storage.delete(lifted_path(row))


def error_path(row: int) -> str:
    """Return where a row's error record lies."""
    return f"{FOLDER}/{row}.json"


def lifted_path(row: int) -> str:
    """Return where the record lies once it is lifted; no reader of the quarantine takes it for one."""
    return f"{FOLDER}/{row}.lifted.json"


def _parse(body: bytes, storage: Storage) -> QuarantinedRow:
    if fault := seal_fault(body):
        raise StoreError(f"an error record below {FOLDER}/ in {storage.url} is damaged: {fault}; delete it")
    try:
        raw: dict[str, Any] = parse_object(body)
        failure = VolumeFailure(
            raw["stage"], raw["error"], raw["message"], int(raw["attempts"]), VolumeId(raw.get("whole", ""))
        )
        return QuarantinedRow(int(raw["row"]), failure, int(raw["time_ns"]), int(raw["worker"]), raw["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"an error record below {FOLDER}/ in {storage.url} is damaged: {error!r}; delete it"
        ) from error
