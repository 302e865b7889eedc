"""The ledger of the locked test split: one line of JSON a look, beside the runs, appended before anything is seen.

A look is at people, not at a cohort: each line names whom it saw (see People), so another task or table counts too.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classify.cohort.identity import People
from classify.errors import RunFolderError
from embeddings_store.regular_file import require_regular

LEDGER = "test_ledger.jsonl"
LOCK = ".test_ledger.lock"
PIECES = re.compile(r'\0+|(?=\{"run": )')
"""What stands between two looks of one line, where a crash left NUL bytes or cut the first of them."""

COUNTED_HERE = "counted in this folder of runs and in its copies nearby, and nowhere else"
CLOSED = "without it the test split stays locked"


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One look. id, people: "" and None in a line of an older version, which doesn't say whom it saw."""

    run: str
    date: str
    cohort_sha256: str
    id: str = ""
    people: People | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name the look: its line in a copied ledger, and its entry in the run's record, are the same look."""
        return ("", self.id) if self.id else (self.run, self.date)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The lines that can be read, oldest first, and the numbers of those that were cut while they were written."""

    lines: tuple[LedgerLine, ...]
    cut: tuple[int, ...]


@contextmanager
def ledger_lock(runs: Path) -> Iterator[None]:
    """Hold the ledger alone; another evaluation waits. The system lets go of it if the process dies."""
    try:
        require_regular(runs / LOCK)
        held = (runs / LOCK).open("a")
    except OSError as error:
        raise _unwritable(error) from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritable(error) from error
        yield


def read_ledger(runs: Path) -> Ledger:
    """Read the ledger beside the runs; no ledger means no line. A line that was cut is gone on from, and named.

    Raises: RunFolderError where a whole line is not one of a look: nobody may look again over a damaged ledger.
    """
    path, lines, cut = runs / LEDGER, [], []
    try:
        require_regular(path)
        text = path.read_text(errors="replace") if path.exists() else ""
    except OSError as error:
        raise _unwritable(error) from error
    for number, line in enumerate(text.splitlines(), 1):
        for piece in filter(None, (part.strip() for part in PIECES.split(line))):
            try:
                lines.append(_parse(json.loads(piece)))
            except json.JSONDecodeError as error:
                if not piece.startswith("{"):
                    raise _damaged(number) from error
                cut.append(number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _damaged(number) from error
    return Ledger(tuple(lines), tuple(cut))


def append_look(runs: Path, line: LedgerLine) -> None:
    """Add one line and wait until it lies on disk; a look that fails afterwards stays counted.

    Raises: RunFolderError where the ledger cannot be written; then nothing was looked at.
    """
    path = runs / LEDGER
    try:
        require_regular(path)
        with path.open("ab") as ledger:
            length = ledger.tell()
            text = json.dumps(asdict(line)).encode() + b"\n"
            if length and not path.read_bytes().endswith(b"\n"):
                text = b"\n" + text  # the line before was cut
            try:
                ledger.write(text)
                ledger.flush()
                os.fsync(ledger.fileno())
            except OSError:
                os.truncate(path, length)
                raise
    except OSError as error:
        raise _unwritable(error) from error


def _parse(raw: Any) -> LedgerLine:
    people = {str(person): [str(mark) for mark in marks] for person, marks in (raw.get("people") or {}).items()}
    return LedgerLine(
        str(raw["run"]), str(raw["date"]), str(raw["cohort_sha256"]), str(raw.get("id", "")), people or None
    )


def _damaged(number: int) -> RunFolderError:
    return RunFolderError(f"{LEDGER}, line {number}: expected run, date and cohort_sha256 in JSON; restore the ledger")


def _unwritable(error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{LEDGER}: expected a file next to the runs that can be written and locked, got: {error.strerror}; {CLOSED}"
    )
