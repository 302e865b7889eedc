"""Near copies that a user vouches for (--allow-near-copies): twins, people who came twice, repeats."""

import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify.errors import CohortError
from classify.run.record import RunRecord
from embeddings_store.cells import normalise_id
from embeddings_store.regular_file import require_regular
from embeddings_store.text_table import ID_NAMES

OPTION = "--allow-near-copies"


@dataclass(frozen=True, slots=True)
class Vouched:
    """Participants, and pairs of them, whose scans may be as alike as they are."""

    people: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, str]] = frozenset()

    def allows(self, first: str, second: str) -> bool:
        """Tell whether somebody vouches for these two."""
        return first in self.people or second in self.people or (min(first, second), max(first, second)) in self.pairs

    def to_record(self) -> dict[str, list[Any]]:
        """Give plain JSON types."""
        return {"people": sorted(self.people), "pairs": [list(pair) for pair in sorted(self.pairs)]}

    def require_known(self, participants: Set[str]) -> None:
        """Raises: CohortError where half of the ids, or more, are nobody's in the store."""
        ids = self.people | {name for pair in self.pairs for name in pair}
        strange = sorted(ids - participants)
        if ids and 2 * len(strange) >= len(ids):
            raise CohortError(
                f"{OPTION}: {len(strange)} of {len(ids)} ids are no participants of the store ({', '.join(strange[:3])}"
                f"{' ...' if len(strange) > 3 else ''}); write them as participants.tsv does"
            )


NOBODY = Vouched()


def vouched_of_record(record: RunRecord) -> Vouched:
    """Read from a run record whom its maker vouched for: evaluating it needs the same cohort."""
    said = record.cohort.near_copies_allowed or {"people": [], "pairs": []}
    return Vouched(frozenset(said["people"]), frozenset((pair[0], pair[1]) for pair in said["pairs"]))


def read_vouched(path: Path) -> Vouched:
    """Read a line a participant, or two ids a line for a pair, with a tab, comma or space between.

    Raises: CohortError where the file is missing, empty, or has a line of another kind.
    """
    where = f"{OPTION} {path.name}"
    try:
        require_regular(path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"{where}: expected a text file of participant ids, got: {error}") from error
    lines = [
        [normalise_id(part.strip("\"'")) for part in re.split(r"[\s,;]+", line.strip())] for line in text.splitlines()
    ]
    lines = [ids for ids in lines if ids != [""] and ids[0] not in ID_NAMES]
    if not lines:
        raise CohortError(f"{where}: expected at least one participant id, got none")
    for ids in lines:
        if len(ids) > 2 or "" in ids or len(set(ids)) < len(ids):
            raise CohortError(f"{where}: expected one id or two different ones a line, got {' '.join(ids)!r}")
    pairs = frozenset((min(ids), max(ids)) for ids in lines if len(ids) == 2)
    return Vouched(frozenset(ids[0] for ids in lines if len(ids) == 1), pairs)
