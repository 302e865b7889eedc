"""The ledger of the locked test split: one line of JSON a look, beside the runs, appended before anything is seen."""

import json
import os
from pathlib import Path

from classify.errors import RunFolderError

LEDGER = "test_ledger.jsonl"
FIELDS = ("run", "date", "cohort_sha256")


def count_looks(runs: Path, cohort_sha256: str) -> int:
    """Count the looks at the test split of one cohort; no ledger means none.

    Raises: RunFolderError where a line cannot be read: nobody may look again over a damaged ledger.
    """
    path = runs / LEDGER
    if not path.exists():
        return 0
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    return sum(_cohort_of(line, number) == cohort_sha256 for number, line in enumerate(lines, 1))


def append_look(runs: Path, *, run: str, date: str, cohort_sha256: str) -> None:
    """Add one line and wait until it lies on disk; a look that fails afterwards stays counted.

    Raises: RunFolderError where the ledger cannot be written; then nothing was looked at.
    """
    line = json.dumps(dict(zip(FIELDS, (run, date, cohort_sha256), strict=True))) + "\n"
    try:
        with (runs / LEDGER).open("a") as ledger:
            ledger.write(line)
            ledger.flush()
            os.fsync(ledger.fileno())
    except OSError as error:
        raise RunFolderError(
            f"{LEDGER}: expected a file beside the runs that can be written, got: {error.strerror}; "
            f"without it the test split stays locked"
        ) from error


def _cohort_of(line: str, number: int) -> str:
    try:
        raw = json.loads(line)
        return str([raw[name] for name in FIELDS][-1])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{LEDGER}, line {number}: expected {', '.join(FIELDS)} in JSON; restore it") from error
