"""retinal_oct/manifest.tsv: the index of the dataset in one request, where it exists."""

import csv
from collections.abc import Iterator
from io import StringIO

from extract.bucket.source import ObjectInfo
from extract.errors import BucketError

PARTICIPANT_COLUMNS = ("participant_id", "person_id")  # AI-READI v2, v3


def read_manifest(data: bytes) -> Iterator[tuple[ObjectInfo, str]]:
    """Yield each file of the manifest and the participant its line names ("" where no column does).

    The manifest knows neither sizes nor etags. Raises: BucketError when it is no such table.
    """
    try:
        table = csv.DictReader(StringIO(data.decode("utf-8-sig")), delimiter="\t")
        columns = table.fieldnames or []
        if "filepath" not in columns:
            raise BucketError(f"manifest.tsv: expected a column 'filepath', got {', '.join(columns[:20]) or 'nothing'}")
        person = next((name for name in PARTICIPANT_COLUMNS if name in columns), None)
        for line in table:
            key = (line["filepath"] or "").strip().lstrip("/")
            participant = (line[person] or "").strip() if person else ""
            yield ObjectInfo(key, -1, ""), participant
    except (UnicodeDecodeError, csv.Error) as error:
        raise BucketError(f"manifest.tsv: expected a table in UTF-8, got {type(error).__name__}") from error
