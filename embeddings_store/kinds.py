"""What kind of object each row was made of, as text: a small sealed record a row, which rows of before do not have."""

from collections.abc import Sequence
from dataclasses import asdict, fields

import pandas as pd

from embeddings_store.checksums import seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import StoreError
from embeddings_store.schema import Kind
from embeddings_store.storage import Storage, concurrently

FOLDER = "kinds"
COLUMNS = tuple(field.name for field in fields(Kind))


def kind_path(row: int) -> str:
    """Return where a row's record lies."""
    return f"{FOLDER}/{row}.json"


def put_kind(storage: Storage, row: int, kind: Kind | None) -> None:
    """Write a row's record where the kind is known; before the commit, for a row is whole with it."""
    if kind is not None:
        storage.put(kind_path(row), sealed_json({"row": row, **asdict(kind)}))


def kind_fault(storage: Storage, row: int) -> str | None:
    """Return what is wrong with a row's record; None where all is well, or where there is none."""
    body = storage.get(kind_path(row))
    fault = None if body is None else seal_fault(body)
    return f"the record of its kind is damaged: {fault}" if fault else None


def read_kind(storage: Storage, row: int) -> Kind | None:
    """Read a row's record; None where it has none. Raises StoreError when it is damaged."""
    body = storage.get(kind_path(row))
    if body is None:
        return None
    if fault := seal_fault(body):
        raise StoreError(
            f"{storage.url}/{kind_path(row)} is damaged: {fault}; run `extract-embeddings verify --repair`, then "
            "extract again"
        )
    record = parse_object(body)
    return Kind(*(str(record.get(name, "")) for name in COLUMNS))


def read_kinds(storage: Storage, rows: Sequence[int]) -> pd.DataFrame:
    """Read COLUMNS of rows, indexed by row, "" where a row has no record; without columns where no row has one."""
    lying = set(storage.list_paths(FOLDER))
    known = {row for row in rows if kind_path(row) in lying}
    places = pd.Index(list(rows), name="row", dtype="int64")
    if not known:
        return pd.DataFrame(index=places)
    found = concurrently(lambda row: read_kind(storage, row) if row in known else None, rows, storage.threads)
    lines = [asdict(kind or Kind("", "", "")) for kind in found]
    return pd.DataFrame(lines, index=places, columns=list(COLUMNS)).astype("str")
