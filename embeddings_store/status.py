"""How complete a store is: counts, coverage by what matters, and the space."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from embeddings_store.encoder_source import read_encoder_source
from embeddings_store.encoding_cost import read_encoding_cost
from embeddings_store.failed_rows import commonest, failed_rows_of
from embeddings_store.reader import StoreReader
from embeddings_store.room import account
from embeddings_store.schema import VolumeFailure
from embeddings_store.snapshot_files import latest_number

COVERED_BY = ("site", "device", "protocol", "eye")
STATES = ("committed", "errors", "missing")
SPACE_ID = re.compile(r"[0-9a-f]{16}")
PARTS = "parts"  # of volumes in several objects: they are in the row of the first, and cover nothing themselves


def store_status(reader: StoreReader) -> dict[str, Any]:
    """Describe a store in plain JSON types, from listings, the index and the error records; no row is read."""
    index = reader.index()
    committed = reader.committed_among(len(index))
    records = [record for record in reader.quarantined() if record.row < len(index)]
    errors = [record for record in records if not record.failure.whole]
    failed, part = (np.zeros(len(index), dtype=np.bool_) for _ in range(2))
    failed[[record.row for record in errors]] = True
    part[[record.row for record in records if record.failure.whole]] = True
    encoder, cost = read_encoder_source(reader.storage, reader.space), read_encoding_cost(reader.storage)
    states = pd.Series(np.select([committed, failed, part], [*STATES[:2], PARTS], STATES[2]), index=index.index)
    return {
        "store": reader.storage.url,
        "space_id": reader.space_id,
        "space": reader.space.to_dict(),
        "encoder": encoder.to_record() if encoder else None,
        "encoding_cost": cost.to_record() if cost else None,
        "rows": len(index),
        "capacity": reader.capacity,
        "committed": int(committed.sum()),
        "errors": len(errors),
        "missing": int((states == "missing").sum()),
        "parts": int((states == PARTS).sum()),
        "errors_by_class": dict(Counter(record.failure.error for record in errors).most_common()),
        "error_groups": _groups([record.failure for record in errors]),
        "commonest_errors": commonest(failed_rows_of(reader))[:3],
        "participants": int(index["participant"].nunique()),
        "coverage": {column: _coverage(states, index[column]) for column in COVERED_BY},
        "snapshot": latest_number(reader.storage),
        "derived": [name for name in sorted(reader.storage.list_names("derived")) if SPACE_ID.fullmatch(name)],
        **account(reader.space),
    }


def _groups(failures: Sequence[VolumeFailure]) -> list[dict[str, Any]]:
    """Count error rows by stage and class, the most frequent first; with the most tries that one of them had."""
    counts = Counter((failure.stage, failure.error) for failure in failures)
    tries = dict.fromkeys(counts, 0)
    for failure in failures:
        group = (failure.stage, failure.error)
        tries[group] = max(tries[group], failure.attempts)
    return [
        {"stage": stage, "error": error, "rows": rows, "most_attempts": tries[stage, error]}
        for (stage, error), rows in counts.most_common()
    ]


def _coverage(states: pd.Series, values: pd.Series) -> dict[str, dict[str, int]]:
    """Count the states for each value of a column: {"UW": {"committed": 8, "errors": 1, "missing": 0}}."""
    table = pd.crosstab(values, states).reindex(columns=list(STATES), fill_value=0)
    return {str(value): {state: int(counts[state]) for state in STATES} for value, counts in table.iterrows()}
