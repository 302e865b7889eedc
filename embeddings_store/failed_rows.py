"""What failed and why: the error rows of a store with the keys and people that they belong to."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from embeddings_store.plain_text import cell_for_spreadsheets
from embeddings_store.reader import StoreReader
from embeddings_store.safe_keys import shortened

COLUMNS = ("key", "volume", "participant", "stage", "class", "reason", "tries")


def failed_rows_of(reader: StoreReader) -> list[dict[str, Any]]:
    """Return one record for each error row, in the order of rows; further parts of volumes are no failures."""
    index = reader.index()
    records = [one for one in reader.quarantined() if one.row < len(index) and not one.failure.whole]
    return [
        {
            "key": str(index["key"][one.row]),
            "volume": str(index["volume"][one.row]),
            "participant": str(index["participant"][one.row]),
            "stage": one.failure.stage,
            "class": one.failure.error,
            "reason": one.failure.message.removeprefix(f"{index['volume'][one.row]}: "),
            "tries": one.failure.attempts,
        }
        for one in records
    ]


def to_csv(found: Sequence[dict[str, Any]]) -> str:
    """Write the records as CSV with a header; no cell begins a formula."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(
        {name: cell_for_spreadsheets(cell) if isinstance(cell, str) else cell for name, cell in one.items()}
        for one in found
    )
    return text.getvalue()


def commonest(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group failures by class, the most frequent first, each with an example whose key may be shown."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault(one["class"], []).append(one)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {"class": name, "rows": len(own), "example": shortened(own[0]["key"]), "reason": own[0]["reason"]}
        for name, own in ordered
    ]
