"""participants.tsv: who is enrolled, in which split, and whether OCT was promised. Nothing clinical is read here."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from embeddings_store.errors import UsageError
from extract.bucket.manifest import PARTICIPANT_COLUMNS
from extract.errors import BucketError


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One participant of the table. split: "" unknown; has_oct: what the column retinal_oct promises."""

    participant: str
    split: str
    has_oct: bool


def read_participants(data: bytes) -> list[Enrolled]:
    """Read id, recommended_split and the flag retinal_oct. Raises: BucketError when it is no such table."""
    try:
        table = csv.DictReader(StringIO(data.decode("utf-8-sig")), delimiter="\t")
        person = next((name for name in PARTICIPANT_COLUMNS if name in (table.fieldnames or [])), None)
        if person is None:
            raise BucketError("participants.tsv: expected a column participant_id or person_id, got none of them")
        return [
            Enrolled(
                participant=(line[person] or "").strip(),
                split=(line.get("recommended_split") or "").strip(),
                has_oct=(line.get("retinal_oct") or "").strip().upper() == "TRUE",
            )
            for line in table
            if (line[person] or "").strip()
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BucketError(f"participants.tsv: expected a table in UTF-8, got {type(error).__name__}") from error


def read_participant_ids(path: Path) -> frozenset[str]:
    """Read ids from a participants.tsv, or from a file of one id a line. Raises: UsageError, naming --participants."""
    try:
        data = path.read_bytes()
        first, _, _ = data.decode("utf-8-sig").partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--participants {path}: cannot be read as text: {type(error).__name__}") from error
    if "\t" in first or first.strip() in PARTICIPANT_COLUMNS:
        try:
            ids = {line.participant for line in read_participants(data)}
        except BucketError as error:
            raise UsageError(f"--participants {path}: expected a column participant_id or person_id") from error
    else:
        ids = {line.strip() for line in data.decode("utf-8-sig").splitlines()}
    ids.discard("")
    if not ids:
        raise UsageError(f"--participants {path}: expected at least one participant id, got none")
    return frozenset(ids)
