"""The page says how often the test split was looked at, and never "never" over a damaged ledger."""

import json
from pathlib import Path

import pytest

from embeddings_store.errors import RunError
from reports.ledger import LEDGER, read_looks, say_looks


def test_no_ledger_means_never(tmp_path: Path) -> None:
    assert say_looks(read_looks(tmp_path, "a")) == "never"


def test_looks_at_this_cohort_are_counted(tmp_path: Path) -> None:
    lines = [
        {"run": r, "date": "2026-11-20T10:00:00Z", "cohort_sha256": c} for r, c in (("x", "a"), ("y", "b"), ("z", "a"))
    ]
    (tmp_path / LEDGER).write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    assert say_looks(read_looks(tmp_path, "a")) == "2 times (x on 2026-11-20; z on 2026-11-20)"
    assert say_looks(read_looks(tmp_path, "b")).startswith("once")


@pytest.mark.parametrize("line", ["{", "[]", '{"run": "x"}'])
def test_a_damaged_ledger_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / LEDGER).write_text(line)
    with pytest.raises(RunError, match="line 1"):
        read_looks(tmp_path, "a")
