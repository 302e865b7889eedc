"""What was noticed about the volumes of a store, counted and listed by note."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from embeddings_store.errors import UsageError
from embeddings_store.reader import StoreReader
from embeddings_store.schema import Note


@dataclass(frozen=True, slots=True)
class NoteCount:
    """How many rows have a note; example: the volume id of the first: keys carry UIDs, which no log shows."""

    note: str
    rows: int
    example: str


def count_notes(reader: StoreReader, index: pd.DataFrame, rows: Sequence[int]) -> list[NoteCount]:
    """Count the notes of committed rows, the most frequent first. index: of the reader."""
    rows = sorted(rows)
    notes = _notes(reader, rows)
    volumes = index["volume"].to_numpy()[rows]
    having = {note: np.flatnonzero(notes & note.value) for note in Note}
    found = [NoteCount(str(note.name), len(at), str(volumes[at[0]])) for note, at in having.items() if len(at)]
    return sorted(found, key=lambda count: -count.rows)


def rows_with_note(reader: StoreReader, name: str) -> pd.DataFrame:
    """List the committed rows that have a note: row, key, volume. Raises UsageError for a note that does not exist."""
    try:
        note = Note[name.upper().replace("-", "_")]
    except KeyError as error:
        known = ", ".join(str(one.name) for one in Note)
        raise UsageError(f"--notes: expected one of {known}, got {name!r}") from error
    index = reader.index()
    rows = np.flatnonzero(reader.committed_among(len(index)))
    having = rows[(_notes(reader, rows.tolist()) & note.value) != 0]
    found: pd.DataFrame = index.iloc[having][["row", "key", "volume"]].reset_index(drop=True)
    return found


def _notes(reader: StoreReader, rows: Sequence[int]) -> Int64[np.ndarray, " n"]:
    return reader.facts(rows)["notes"].to_numpy().astype(np.int64)
