"""A table with far more columns than any has is refused in one line; one that is wide is read once, not per column."""

import pytest

from embeddings_store import text_table
from embeddings_store.errors import UsageError
from embeddings_store.text_table import MOST_COLUMNS, TextTable, open_table


def opened(columns: int) -> TextTable:
    names = "\t".join(["participant_id", *(f"c{n}" for n in range(columns - 1))])
    line = "\t".join(["1001", *["1"] * (columns - 1)])
    return open_table(f"{names}\n{line}\n".encode(), "--participants", UsageError, ("participant_id",))


def test_more_columns_than_any_table_has_are_one_line() -> None:
    with pytest.raises(UsageError, match=r"--participants: expected at most 20,000 columns, got 200,000$"):
        opened(200_000)


def test_every_column_of_a_wide_table_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table, looked = opened(MOST_COLUMNS), []
    monkeypatch.setattr(text_table, "enumerate", lambda *given: looked.append(1) or enumerate(*given), raising=False)
    (line,) = table.read((), table.names)
    assert (line.participant, len(line.cells)) == ("1001", MOST_COLUMNS)
    assert len(looked) < 10, "the columns are numbered once, not for every name"
