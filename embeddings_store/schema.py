"""The words of the contract: what a row is called, what it says, and where its parts lie.

Layout of a store (see docs/store.md)::

    <store>/                    group attributes: embedding space, capacity, SCHEMA_VERSION
      index/<segment>.parquet   one line a volume: row, key, size, etag, volume, participant, eye, device, protocol
      pooled                    float32 [capacity, layers, pools, C]        one chunk a row
      tokens/<layer>            float16 or int8 [capacity, gd, gh, gw, C]   one chunk a row
      token_scales/<layer>      float32 [capacity, gd, gh, gw]              one chunk a row, beside int8 tokens only
      facts                     float64 [capacity, 14]                      one chunk a row, see FACT_COLUMNS
      thumbnail                 uint8   [capacity, 8, 32, 32]               one chunk a row; not of older rows
      commit                    int64   [capacity, 8]                       one chunk a row, WRITTEN LAST
      layout.crc32c             checksums of the Zarr documents
      workers/<id>.json         device, versions and code commit of the process that wrote a row
      running/<id>.json         a process that is at work now: its rank and the count of ranks
      kinds/<row>.json          SOP class, Modality and ImageType of the object, as text
      errors/<row>.json         quarantine: why a volume has no row; <row>.lifted.json: lifted by retry, keeps its count
      snapshots/<n>/, LATEST    immutable copies that training reads
      packs/                    small files of many rows in one object each, see docs/store-format.md
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from hashlib import sha256
from typing import NewType

SCHEMA_VERSION = 3
"""Of a store's layout, in its root attributes. 1: eight facts a row, the first of FACT_COLUMNS; 2: all of them; 3: a
thumbnail too. In a commit it says what the row has: a row without a thumbnail is of version 2 in any store.

No part of the embedding space: a store that is grown keeps its numbers, and so the id of its space.
"""

VolumeId = NewType("VolumeId", str)
"""16 hex digits: a digest of the key below the prefix. Safe to print: it holds no UID and no name."""

ParticipantId = NewType("ParticipantId", str)
"""Any text of 1 to 64 characters without control characters or slashes. Names a person inside the study, and is never a
feature. The four digits of AI-READI encode the site, too."""

AI_READI_FOLDER = "retinal_oct/structural_oct/"
"""Where the keys of AI-READI begin."""

ABSENT_SIZE = -2
"""The size of a volume that a table names and the bucket lacks; -1 is an unknown one."""

SITES = {"1": "UW", "4": "UCSD", "7": "UAB"}

COMMIT_COLUMNS = (
    "status",  # 0: not committed (an unwritten chunk reads as 0); else the schema version that committed the row
    "crc_vectors",  # low 32 bits: crc32c over pooled, then the facts of "status"; high 32 bits: that of the thumbnail
    "crc_tokens",  # crc32c over the token grids (of int8: each grid, then its scales), layer by layer; 0 without tokens
    "source_size_bytes",
    "source_md5_high",  # the md5 of the source object as two signed 64-bit halves; zeros where not all of it came
    "source_md5_low",
    "time_ns",  # since the epoch, UTC
    "worker",  # id of the process that wrote the row: workers/<id>.json
)

FACT_COLUMNS = (
    "frames",
    "rows",
    "columns",
    "spacing_frame_mm",  # NaN: the file does not say
    "spacing_axial_mm",
    "spacing_lateral_mm",
    "eye",  # what the file itself says: 0 unknown, 1 left (OS), 2 right (OD)
    "notes",  # bit mask of Note
    "spacing_source",  # code of SpacingSource; NaN here and below: unknown
    "intensity_mean",  # of Intensity
    "intensity_sd",
    "intensity_p01",
    "intensity_p50",
    "intensity_p99",
)

WITHOUT_THUMBNAIL = 2
"""The schema version of a row that has all facts and no thumbnail."""

THUMBNAIL_SHAPE = (8, 32, 32)
"""Slices, rows, columns of a thumbnail, whatever the size of the scan."""

READABLE = (WITHOUT_THUMBNAIL, SCHEMA_VERSION)
"""The schema versions of rows that can be read, and of stores that were never packed."""

PACKED = 4
"""The schema version of a store whose small files may lie in packs. No row has it."""

SITE_COLUMN = "site"
"""Of an index segment, only where a table told a site."""

INDEX_COLUMNS = ("row", "key", "size", "etag", "volume", "participant", "eye", "device", "protocol")


class Eye(StrEnum):
    """Laterality, in the letters of DICOM ImageLaterality (0020,0062)."""

    LEFT = "L"
    RIGHT = "R"
    UNKNOWN = "U"


class Note(IntFlag):
    """What was noticed about a volume that was used all the same."""

    NONE = 0
    NO_SPACING = 1
    SPACING_UNRELIABLE = 2  # the Cirrus converter wrote a lateral spacing into SliceThickness
    FRAME_COUNT_DISAGREES = 4  # more frames stored than declared
    FRAME_ORDER_DISAGREES = 8  # positions are not monotonic; the stored order is used
    MONOCHROME1 = 16  # not inverted: pretraining saw it so
    CONSTANT = 32  # every voxel is equal: the embedding says nothing
    EYE_DISAGREES = 64  # file name and ImageLaterality differ
    UNKNOWN_PROTOCOL = 128
    SYNTHETIC = 256  # a phantom: the file's own tags say so
    ETAG_IS_NO_MD5 = 512  # it looks like one, but the server encrypts (SSE-KMS, SSE-C): it says nothing of the bytes
    MD5_UNCHECKED = 1024  # only the header and the frames in use came (the md5 is zeros), or the ETag tells no md5
    KIND_UNKNOWN = 1 << 11  # SOP class missing or unknown, or contradicted by the modality
    KIND_LEGACY = 1 << 12  # OCT by its modality, in a class of photographs or secondary captures
    KIND_ALLOWED = 1 << 13  # no structural OCT by its class; --allow-sop-class took it
    META_LENGTH_WRONG = 1 << 14  # the file meta group tells no length, or a wrong one
    SYNTAX_DISAGREES = 1 << 15  # the transfer syntax says implicit VR and the data set is explicit, or the reverse
    PADDED = 1 << 16  # bytes that are no more frames follow the declared ones; these alone are used
    FRAMES_PADDED = 1 << 17  # zeros fill up each frame
    FRAMES_COUNTED = 1 << 18  # NumberOfFrames is missing; the frames are counted by their bytes
    HIGH_BIT = 1 << 19  # samples do not begin at the lowest bit; they are shifted
    RESCALED_BY_FRAME = 1 << 20  # frames differ in slope or intercept: voxels are rescaled as they are read
    GREY_AS_RGB = 1 << 21  # grey stored in colours: three equal channels, no chroma, or a palette of greys
    JOINED = 1 << 23  # from the parts of a concatenation; size and md5 are those of the first part
    NOT_CLOSED = 1 << 24  # the items of compressed frames end without a delimiter; every frame is whole all the same
    SAMPLES_DISAGREE = 1 << 25  # samples use bits above BitsStored, or lack the header's sign; the header is believed
    SLICES_MISSING = 1 << 26  # numbers are missing among the names or numbers of a scan's frames; the others are used
    AXES_DOUBTFUL = 1 << 27  # twice as many frames as columns, and nobody named the axes: look at the preview
    COLOUR_AS_GREY = 1 << 28  # pictures in colour became their luma, as was asked for
    SLICES_UNSEEN = 1 << 29  # slices that are not used do not tell their size by their first bytes; nobody looked


class SpacingSource(IntEnum):
    """Which part of the file told the pixel spacing."""

    NONE = 0
    SHARED = 1  # SharedFunctionalGroupsSequence
    PER_FRAME = 2  # PerFrameFunctionalGroupsSequence, the first frame that tells
    TOP_LEVEL = 3  # the data set itself


@dataclass(frozen=True, slots=True)
class Intensity:
    """How bright a scan is, in stored units: mean, standard deviation and percentiles 1, 50 and 99.

    Of the resized volume before its normalisation, every fourth row and column of it.
    """

    mean: float
    sd: float
    p01: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object says that it is: UID of its SOP class, Modality, and ImageType with "\\" between its values."""

    sop_class: str
    modality: str
    image_type: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing. key: below the prefix; size in bytes, -1 unknown; etag without quotes, "" unknown."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How a layout says that files are read: which array, its axes, colours to grey, 16 bits scaled down by 257.

    volume: from 1, of those in a file that holds several; None: the only one. leave_out: pictures of a stack that do
    not open are left out, as is known of a public dataset.
    """

    array: str | None = None
    axes: tuple[str, str, str] | None = None
    to_grey: bool = False
    to_bytes: bool = False
    volume: int | None = None
    leave_out: bool = False


@dataclass(frozen=True, slots=True)
class VolumeRef:
    """One scan of the bucket that should become a row: everything its key and listing tell.

    ``key`` is relative to the prefix; ``size`` in bytes, -1 where only a manifest named the object, ABSENT_SIZE where
    there is none; ``etag`` without quotes, "" where the source has none. ``site``: where a table told it. ``members``:
    the objects of a scan of several, in the order of its frames; size is then their sum and etag a digest of theirs.
    Neither members nor ``reading`` are kept in an index.
    """

    key: str
    size: int
    etag: str
    volume: VolumeId
    participant: ParticipantId
    eye: Eye
    device: str
    protocol: str
    site: str = ""
    members: tuple[ObjectInfo, ...] = field(default=(), compare=False, repr=False)
    reading: Reading = field(default=Reading(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What the file itself told: geometry, eye, notes, brightness and kind. Unknown spacing, the last two: None."""

    frames: int
    rows: int
    columns: int
    spacing_mm: tuple[float, float, float] | None
    eye: Eye
    notes: Note
    spacing_source: SpacingSource = SpacingSource.NONE
    intensity: Intensity | None = None
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class VolumeFailure:
    """Why an object has no row: the stage, the class of the error and its message (no name, no UID).

    whole: "", or no failure but a part of this volume, in whose row it is.
    """

    stage: str
    error: str
    message: str
    attempts: int
    whole: VolumeId = VolumeId("")


INCOMPLETE = "IncompleteConcatenation"
"""The class of error rows that another object in the folder may mend."""


HERE = "."
"""The key of a volume whose objects lie in no folder below the bucket or prefix."""

SEVERAL = "|"
"""Between the objects of one volume, where a table names them all in one cell."""


def parts_key(first: str, scan: str = "", crowded: Collection[str] = ()) -> str:
    """Return the key of a volume of several objects: the folder they lie in; the first of them where that is crowded.

    first: key of the first object. scan: the cell in which a survey says what the volume is called. crowded: see there.
    """
    folder = first.rpartition("/")[0]
    return scan if scan in {HERE, first} else first if folder in crowded else folder


def crowded_folders(volumes: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the folders that hold several of the volumes that a table names by their objects, each by all its keys."""
    counts = Counter(keys[0].rpartition("/")[0] for keys in {tuple(keys) for keys in volumes})
    return frozenset(folder for folder, count in counts.items() if count > 1)


def volume_id(key: str) -> VolumeId:
    """Name a volume by its key below the prefix, so that a moved bucket keeps its ids."""
    return VolumeId(sha256(key.encode()).hexdigest()[:16])


def site_of(participant: str, told: str = "") -> str:
    """Return the site: as a layout has it, else what an id of AI-READI encodes, UW, UCSD or UAB, or "unknown"."""
    return told or SITES.get(participant[:1], "unknown")


def told_site(participant: str, site: str) -> str:
    """Return a site as a ref keeps it: "" where it says no more than the participant does."""
    return "" if site == site_of(participant) else site
