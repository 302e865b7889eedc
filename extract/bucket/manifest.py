"""retinal_oct/manifest.tsv: what the dataset says of its own files, where it exists."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO

from extract.bucket.source import ObjectInfo
from extract.errors import BucketError

PARTICIPANT_COLUMNS = ("participant_id", "person_id")  # AI-READI v2, v3
UNKNOWN_FRAMES = -1


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One file as the manifest tells it. participant, eye: "" unknown; frames: -1 unknown."""

    key: str
    participant: str
    eye: str
    frames: int


def read_manifest(data: bytes) -> Iterator[tuple[ObjectInfo, str]]:
    """Yield each file of the manifest and the participant its line names ("" where no column does).

    The manifest knows neither sizes nor etags. Raises: BucketError when it is no such table.
    """
    return ((ObjectInfo(line.key, -1, ""), line.participant) for line in read_manifest_lines(data))


def read_manifest_lines(data: bytes) -> Iterator[ManifestLine]:
    """Yield each file of the manifest. Raises: BucketError when it is no such table."""
    try:
        table = csv.DictReader(StringIO(data.decode("utf-8-sig")), delimiter="\t")
        columns = table.fieldnames or []
        if "filepath" not in columns:
            raise BucketError(f"manifest.tsv: expected a column 'filepath', got {', '.join(columns[:20]) or 'nothing'}")
        person = next((name for name in PARTICIPANT_COLUMNS if name in columns), "")
        for line in table:
            frames = _cell(line, "number_of_frames")
            yield ManifestLine(
                key=_cell(line, "filepath").lstrip("/"),
                participant=_cell(line, person),
                eye=_cell(line, "laterality").upper(),
                frames=int(frames) if frames.isascii() and frames.isdecimal() else UNKNOWN_FRAMES,
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise BucketError(f"manifest.tsv: expected a table in UTF-8, got {type(error).__name__}") from error


def _cell(line: dict[str, str | None], column: str) -> str:
    return (line.get(column) or "").strip()
