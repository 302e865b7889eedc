"""How often the locked test split was looked at: one line of JSON a look, beside the runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embeddings_store.errors import RunError

LEDGER = "test_ledger.jsonl"


@dataclass(frozen=True, slots=True)
class TestLook:
    """One evaluation on the test split."""

    run: str
    date: str
    cohort_sha256: str


def read_looks(runs_dir: Path, cohort_sha256: str) -> list[TestLook]:
    """Read the looks at the test split of one cohort, oldest first; no ledger means none.

    Raises: RunError when a line can't be read: a page must not say "never" over a damaged ledger.
    """
    path = runs_dir / LEDGER
    if not path.exists():
        return []
    looks = [_parse(line, number, path) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    return [look for look in looks if look.cohort_sha256 == cohort_sha256]


def say_looks(looks: Sequence[TestLook]) -> str:
    """Write "never", or how often and by which runs."""
    if not looks:
        return "never"
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    return f"{times} ({'; '.join(f'{look.run} on {look.date[:10]}' for look in looks)})"


def _parse(line: str, number: int, path: Path) -> TestLook:
    try:
        raw = json.loads(line)
        return TestLook(str(raw["run"]), str(raw["date"]), str(raw["cohort_sha256"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}, line {number}: expected run, date and cohort_sha256 in JSON; restore the ledger"
        ) from error
