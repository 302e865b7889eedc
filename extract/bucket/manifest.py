"""retinal_oct/manifest.tsv: what the dataset says of its own files, where it exists."""

from collections.abc import Iterator
from dataclasses import dataclass

from embeddings_store.text_table import ID_NAMES, open_table
from extract.errors import BucketError

KEY, EYE, FRAMES = "filepath", "laterality", "number_of_frames"
UNKNOWN_FRAMES = -1


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One file as the manifest tells it. participant, eye: "" unknown; frames: -1 unknown."""

    key: str
    participant: str
    eye: str
    frames: int


def read_manifest_lines(data: bytes) -> Iterator[ManifestLine]:
    """Yield each file of the manifest. Raises: BucketError when it is no such table."""
    table = open_table(data, "manifest.tsv", BucketError, (KEY, *ID_NAMES))
    if not table.has(KEY):
        raise table.refuse(", ".join(table.names[:20]), f"a column {KEY!r}")
    for line in table.read(want=(KEY, EYE, FRAMES)):  # a line that breaks off names no file, and is counted as such
        frames = line.cells.get(FRAMES, "")
        yield ManifestLine(
            key=line.cells[KEY].lstrip("/"),
            participant=line.participant,
            eye=line.cells.get(EYE, "").upper(),
            frames=int(frames) if frames.isascii() and frames.isdecimal() else UNKNOWN_FRAMES,
        )
