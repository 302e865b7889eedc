"""The seam of the layouts: from the objects of a bucket to its scans, and the reasons of what is no scan."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Protocol, runtime_checkable

from embeddings_store.schema import (
    ABSENT_SIZE,
    Eye,
    ObjectInfo,
    ParticipantId,
    Reading,
    VolumeRef,
    told_site,
    volume_id,
)
from extract.bucket.source import Source

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM = (".dcm", ".dicom")
COMPANIONS = {".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz"), ".hdr": (".img", ".img.gz")}
"""Headers, and the files in which their voxels lie."""
KNOWN = (
    *PICTURES, *DICOM, *COMPANIONS, ".npy", ".npz", ".mat", ".nii", ".nii.gz", ".mha", ".nrrd", ".vol", ".e2e", ".fda",
    ".fds", ".img", ".oct", ".xml",
)  # fmt: skip
"""How names of scans end; what is inside decides."""
CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, halves of letters, and what ends a line or a paragraph."""

PLAIN = Reading()
"""One array, frames first, grey."""
DOCUMENTS = (".txt", ".md", ".pdf", ".doc", ".docx", ".html", ".rtf")
TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".ods")
SYSTEM = frozenset({"thumbs.db", "desktop.ini", ".ds_store", "dicomdir"})
_EYES = {
    "l": Eye.LEFT, "os": Eye.LEFT, "left": Eye.LEFT, "r": Eye.RIGHT, "od": Eye.RIGHT, "right": Eye.RIGHT,
    "": Eye.UNKNOWN, "u": Eye.UNKNOWN, "unknown": Eye.UNKNOWN,
}  # fmt: skip


class Skip(StrEnum):
    """Why an object becomes no row."""

    TABLE = "table"
    FOLDER = "folder marker"
    HIDDEN = "hidden file"
    SYSTEM = "system file"
    EMPTY = "empty object"
    NOT_DICOM = "not a .dcm"
    LAYOUT = "not in the layout"
    DOUBLE = "named twice"
    CONTRADICTED = "manifest names another participant"
    OUTSIDE = "link out of the bucket"
    DANGLING = "link to nothing"
    CIRCLE = "link in a circle"
    SPECIAL = "neither file nor folder"
    NO_LINE = "no line of the table names it"
    NO_PARTICIPANT = "no participant known"


@dataclass(frozen=True)
class Scan:
    """One volume as its layout names it. name: what the dataset calls it. numbers: of its slices, where names have any.

    split, visit: as the dataset writes them, "" unknown. labels: "" where not known. size: frames of the first file,
    rows, columns and bits, where the layout has read its header.
    """

    ref: VolumeRef
    name: str
    split: str = ""
    visit: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Warned:
    """One thing that spoils papers: its code, what it means, and what it concerns (nothing: the dataset as a whole)."""

    code: str
    text: str
    concerns: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many it concerns."""
        return max(1, len(self.concerns))


@dataclass(frozen=True)
class Listing:
    """refs: volumes in the order of their keys. listed: objects seen. skipped: how many, by reason.

    scans: what else the layout knows, by key; those without a participant have no ref. examples: a key for each
    reason of skipped. expected: what would have been taken, by reason. ignored: why a file is no volume, by key.
    single_pictures: each scan is one B-scan.
    """

    refs: list[VolumeRef]
    listed: int
    skipped: Mapping[str, int]
    layout: str = "ai-readi"
    scans: Mapping[str, Scan] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    warned: tuple[Warned, ...] = ()
    single_pictures: bool = False


@runtime_checkable
class Layout(Protocol):
    """How one kind of bucket is laid out."""

    name: str

    def find(self, source: Source, objects: Sequence[ObjectInfo]) -> Listing:
        """Name every scan among the objects. Raises: BucketError or UsageError where the layout does not fit."""


def make_ref(
    key: str, objects: Sequence[ObjectInfo], participant: str, *, eye: str = "", device: str = "", protocol: str = "",
    site: str = "", reading: Reading = PLAIN,
) -> VolumeRef:  # fmt: skip
    """Make the reference of a volume of one or several objects; of none: it becomes an error row."""
    alone = len(objects) == 1 and objects[0].key == key
    return VolumeRef(
        key=key,
        size=sum(info.size for info in objects) if objects else ABSENT_SIZE,
        etag=objects[0].etag if alone else _etag_of(objects),
        volume=volume_id(key),
        participant=ParticipantId(participant),
        eye=_EYES[eye.lower()],
        device=device,
        protocol=protocol,
        site=told_site(participant, site or "unknown"),
        members=() if alone else tuple(objects),
        reading=reading,
    )


def _etag_of(objects: Sequence[ObjectInfo]) -> str:
    """Digest the etags of several objects, in a form that is no md5; "" where one is unknown."""
    if not all(info.etag for info in objects) or not objects:
        return ""
    told = "\n".join(f"{info.key}\0{info.size}\0{info.etag}" for info in objects)
    return f"{sha256(told.encode()).hexdigest()[:24]}-{len(objects)}"


def is_eye(text: str) -> bool:
    """Say whether a cell can be an eye: L, R, OD, OS, left, right, or nothing."""
    return text.lower() in _EYES


def participant_fault(text: str) -> str:
    """Say what is wrong with a participant; "" where it is any text of 1 to 64 characters that fits a line."""
    if not text.strip():
        return "nothing"
    if len(text) > 64:
        return f"{len(text)} characters"
    if re.search(r"[/\\]", text) or any(unicodedata.category(letter) in CONTROLS for letter in text):
        return f"{text!r}, with a slash or a control character"
    return ""


def junk_of(info: ObjectInfo) -> Skip | None:
    """Say why an object can be no part of any scan, whatever the layout."""
    name = info.key.rpartition("/")[2]
    if not name:
        return Skip.FOLDER
    if name.lower() in SYSTEM or name.startswith("._") or "__MACOSX/" in info.key:
        return Skip.SYSTEM
    if name.startswith("."):
        return Skip.HIDDEN
    if name.lower().endswith(TABLES):
        return Skip.TABLE
    return Skip.EMPTY if info.size == 0 else None


def with_companions(info: ObjectInfo, folder: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Add to a header the files of its voxels, which lie in the same folder: of its own name, else the only ones."""
    kinds = next((pixels for header, pixels in COMPANIONS.items() if info.key.lower().endswith(header)), ())
    found = [other for other in folder if other.key.lower().endswith(kinds)] if kinds else []
    stem = info.key.rpartition(".")[0]
    own = [other for other in found if other.key.startswith(f"{stem}.")]
    return [info, *(own or found)]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Give the order of names in which 2 comes before 10."""
    parts = re.split(r"(\d+)", text.lower())
    return [(1, int(part), "") if part.isascii() and part.isdecimal() else (0, 0, part) for part in parts]
