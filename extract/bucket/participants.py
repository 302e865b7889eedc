"""participants.tsv: who is enrolled, in which split, and whether OCT was promised. Nothing clinical is read here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embeddings_store.cells import YES
from embeddings_store.errors import UsageError
from embeddings_store.text_table import ID_NAMES, open_table, read_file, read_ids
from extract.errors import BucketError

OF_BUCKET = "participants.tsv of the bucket"
SPLIT, HAS_OCT = "recommended_split", "retinal_oct"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One participant of the table. split: "" unknown; has_oct: what the column retinal_oct promises."""

    participant: str
    split: str
    has_oct: bool


def read_participants(data: bytes) -> tuple[list[Enrolled], list[str]]:
    """Read id, recommended_split and the flag retinal_oct, and what was mended.

    Raises: BucketError when it is no such table.
    """
    table = open_table(data, OF_BUCKET, BucketError, ID_NAMES)
    enrolled = [
        Enrolled(line.participant, line.cells.get(SPLIT, ""), line.cells.get(HAS_OCT, "").lower() in YES)
        for line in table.read(want=(SPLIT, HAS_OCT))
        if line.participant
    ]
    if not enrolled:
        raise table.refuse("a header alone", "at least one participant")
    return enrolled, table.said()


def read_participant_ids(path: Path, tell: Callable[[str], None] = lambda _: None) -> frozenset[str]:
    """Read ids from a participants.tsv, or from a file of one id a line. tell: hears what was mended.

    Raises: UsageError, naming --participants.
    """
    where = f"--participants {path}"
    ids, notes = read_ids(read_file(path, where, UsageError), where, UsageError)
    for said in notes:
        tell(said)
    return ids
