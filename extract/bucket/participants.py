"""participants.tsv: who is enrolled, in which split, and whether OCT was promised. Nothing clinical is read here."""

from dataclasses import dataclass
from pathlib import Path

from embeddings_store.cells import YES
from embeddings_store.errors import UsageError
from embeddings_store.text_table import ID_NAMES, open_table, read_file, read_ids
from extract.errors import BucketError

SPLIT, HAS_OCT = "recommended_split", "retinal_oct"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One participant of the table. split: "" unknown; has_oct: what the column retinal_oct promises."""

    participant: str
    split: str
    has_oct: bool


def read_participants(data: bytes) -> list[Enrolled]:
    """Read id, recommended_split and the flag retinal_oct. Raises: BucketError when it is no such table."""
    table = open_table(data, "participants.tsv", BucketError, ID_NAMES)
    return [
        Enrolled(line.participant, line.cells.get(SPLIT, ""), line.cells.get(HAS_OCT, "").lower() in YES)
        for line in table.read(want=(SPLIT, HAS_OCT))
        if line.participant
    ]


def read_participant_ids(path: Path) -> frozenset[str]:
    """Read ids from a participants.tsv, or from a file of one id a line. Raises: UsageError, naming --participants."""
    where = f"--participants {path}"
    return read_ids(read_file(path, where, UsageError), where, UsageError)[0]
