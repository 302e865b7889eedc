"""Several processes fill one store: rank 0 alone appends to the index, the others wait for it; each has its own rows.

What a process owns follows from the row's number, so a run that goes on, with as many ranks or others, needs no word
between them: rows are missing until they are committed, whoever does them, and a row done twice is the same row.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from embeddings_store.errors import StoreError, UsageError
from embeddings_store.index import AddedVolumes, IndexRow, index_rows, plan_append, read_index
from embeddings_store.schema import VolumeRef
from embeddings_store.terminal.console import say
from embeddings_store.writer import StoreWriter

PATIENCE_S = 600.0
PAUSE_S = 0.5
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, slots=True)
class Rank:
    """One of ``count`` processes, counted from 0. Raises UsageError for a number that is none of them."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise UsageError(f"rank {self.number} of {self.count}: expected a number from 0 to {self.count - 1}")

    def own(self, lines: Iterable[IndexRow]) -> list[IndexRow]:
        """Choose the rows that this process does: every ``count``-th, so that ranks share old and new rows evenly."""
        return [line for line in lines if line.row % self.count == self.number]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a rank waits: for how long in all, how long between looks, and who hears of it."""

    patience_s: float = PATIENCE_S
    pause_s: float = PAUSE_S
    tell: Callable[[str], None] = say


def announce_volumes(
    writer: StoreWriter, refs: Sequence[VolumeRef], rank: Rank, waiting: Waiting | None = None
) -> AddedVolumes:
    """Add the volumes (rank 0), or wait until the index has them; every rank gets the same ``refs``.

    Raises StoreError when rank 0 does not come in time.
    """
    return writer.add_volumes(refs) if rank.number == 0 else _await(writer, refs, rank, waiting or Waiting())


def _await(writer: StoreWriter, refs: Sequence[VolumeRef], rank: Rank, waiting: Waiting) -> AddedVolumes:
    start = time.monotonic()
    said = start - SECONDS_BETWEEN_LINES
    while True:
        lines, added = plan_append(index_rows(read_index(writer.storage)), refs)
        if not lines:
            return added
        waited = time.monotonic() - start
        words = f"rank {rank.number} of {rank.count}: rank 0 has yet to write {len(lines):,} lines of the index"
        if waited > waiting.patience_s:
            raise StoreError(f"{words}, after {waited:,.0f} s; is it running, with the same bucket and selection?")
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            waiting.tell(f"{words}; waiting")
            said = time.monotonic()
        time.sleep(waiting.pause_s)
