"""Quarantine: volumes that failed, one JSON record each, so that the next run does not try them again unasked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from embeddings_store.errors import StoreError
from embeddings_store.schema import VolumeFailure
from embeddings_store.storage import Storage, concurrently

FOLDER = "errors"


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """Why a row has no vectors, when it was tried, by which worker and with which versions."""

    row: int
    failure: VolumeFailure
    time_ns: int
    worker: int
    versions: Mapping[str, str]


def put_error(storage: Storage, record: QuarantinedRow) -> None:
    """Write errors/<row>.json."""
    fields = {
        "row": record.row,
        **asdict(record.failure),
        "time_ns": record.time_ns,
        "worker": str(record.worker),
        "versions": dict(record.versions),
    }
    storage.put(error_path(record.row), json.dumps(fields, indent=1).encode())


def quarantined_rows(storage: Storage) -> set[int]:
    """List the rows that have an error record."""
    names = (path.rpartition("/")[2].removesuffix(".json") for path in storage.list_paths(FOLDER))
    return {int(name) for name in names if name.isdigit()}


def read_errors(storage: Storage, rows: set[int]) -> list[QuarantinedRow]:
    """Read the error records of rows, sorted by row; one that went away meanwhile (the row succeeded) is left out."""
    found = concurrently(lambda row: storage.get(error_path(row)), sorted(rows))
    return [_parse(bytes(body), storage) for body in found if body is not None]


def delete_errors(storage: Storage) -> int:
    """Delete every error record and count them."""
    rows = quarantined_rows(storage)
    return sum(1 for _ in concurrently(lambda row: storage.delete(error_path(row)), rows))


def error_path(row: int) -> str:
    """Say where a row's error record lies."""
    return f"{FOLDER}/{row}.json"


def _parse(body: bytes, storage: Storage) -> QuarantinedRow:
    try:
        raw: dict[str, Any] = json.loads(body)
        failure = VolumeFailure(raw["stage"], raw["error"], raw["message"], int(raw["attempts"]))
        return QuarantinedRow(int(raw["row"]), failure, int(raw["time_ns"]), int(raw["worker"]), raw["versions"])
    except (ValueError, KeyError) as error:
        raise StoreError(
            f"an error record below {FOLDER}/ in {storage.url} is damaged: {error!r}; delete it"
        ) from error
