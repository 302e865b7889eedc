"""What the store holds, and what it lacks: facts for the page's header, flow and coverage tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embeddings_store.reader import StoreReader
from embeddings_store.status import STATES, store_status


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """Volumes of one site, device, protocol or eye: committed, failed, and not tried yet."""

    value: str
    committed: int
    errors: int
    missing: int

    @property
    def indexed(self) -> int:
        """Count all volumes that the index names."""
        return self.committed + self.errors + self.missing


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """One store at one moment.

    coverage: site, device, protocol, eye -> its rows. errors_by_class: error class -> volumes.
    """

    address: str
    space: str
    embedding_space: Mapping[str, Any]
    indexed: int
    committed: int
    errors_by_class: Mapping[str, int]
    coverage: Mapping[str, tuple[CoverageRow, ...]]

    @property
    def missing(self) -> int:
        """Count indexed volumes that have neither an embedding nor an error."""
        return self.indexed - self.committed - sum(self.errors_by_class.values())


def read_store_facts(reader: StoreReader) -> StoreFacts:
    """Look at a store once: listings, index and error records; no row is read."""
    status = store_status(reader)
    return StoreFacts(
        address=without_credentials(status["store"]),
        space=status["space_id"],
        embedding_space=status["space"],
        indexed=status["rows"],
        committed=status["committed"],
        errors_by_class=status["errors_by_class"],
        coverage={axis: coverage_rows(counts) for axis, counts in status["coverage"].items()},
    )


def coverage_rows(counts: Mapping[str, Mapping[str, int]]) -> tuple[CoverageRow, ...]:
    """Order the values of one axis by name."""
    return tuple(CoverageRow(value, *(counts[value].get(state, 0) for state in STATES)) for value in sorted(counts))


def without_credentials(address: str) -> str:
    """Take user and password out of an address, so that a page never carries them."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)
