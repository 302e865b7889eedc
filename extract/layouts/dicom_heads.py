"""What the header of a DICOM file says of a scan, read from its first bytes alone."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from embeddings_store.safe_keys import shortened
from embeddings_store.schema import ObjectInfo
from extract.bucket.source import RangeRefused, RangeSource, Source
from extract.dicom.header import FOREIGN_ERRORS, quiet_pydicom
from extract.errors import BucketError, FetchError
from extract.layouts.contract import DICOM, KNOWN

OF_FOLDER = "-"
"""Series of single frames that name none: the frames of a folder belong together."""

HEAD_BYTES = 1 << 16
AT_ONCE = 16
NUMBERS = ["NumberOfFrames", "Rows", "Columns", "BitsAllocated"]
TEXTS = ["PatientID", "PatientName", "SeriesInstanceUID", "ImageLaterality", "Laterality", "ManufacturerModelName"]
TAGS = [*TEXTS, "ProtocolName", *NUMBERS]
PROTOCOL = re.compile(r"(?=.*[a-z])(?!.*[0-9]{5})(?!.*(?<![0-9])(?:19[0-9]|20[0-3])[0-9](?![0-9]))[a-z0-9_]{1,40}")
"""A protocol as it is kept: no longer, and without the digits of a number or a year."""


@dataclass(frozen=True)
class Head:
    """What a header tells, "" or 0 where it is silent. size: frames (1: a single one), rows, columns, bits."""

    patient: str
    series: str
    eye: str
    device: str
    protocol: str
    size: tuple[int, int, int, int]

    @property
    def frame_of(self) -> str:
        """Return the series that this file is one frame of, by its folder alone where it names none; "" of a volume."""
        return (self.series or OF_FOLDER) if self.size[0] == 1 else ""


def may_be_dicom(key: str) -> bool:
    """Say whether a name is that of a DICOM file, or of no known kind, as names of DICOM files often are."""
    return key.lower().endswith(DICOM) or not key.lower().endswith(KNOWN)


def read_heads(source: Source, objects: Sequence[ObjectInfo]) -> dict[str, Head]:
    """Read the headers, several at once; what is no DICOM file is left out.

    Raises: BucketError, also where one of a folder of single frames cannot be had: its series would lack it unnoticed.
    """

    def read(info: ObjectInfo) -> Head | FetchError | None:
        try:
            return read_head(first_bytes(source, info))
        except FetchError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip((info.key for info in objects), pool.map(read, objects), strict=True))
    heads = {key: head for key, head in found.items() if isinstance(head, Head)}
    framed = {key.rpartition("/")[0] for key, head in heads.items() if head.frame_of}
    for key, error in found.items():
        if isinstance(error, FetchError) and key.rpartition("/")[0] in framed:
            raise BucketError(
                f"bucket {source.name}: the header of {shortened(key)} cannot be read, which may be a frame of a "
                f"series: {error}; run again, or take the file away"
            ) from error
    return heads


def first_bytes(source: Source, info: ObjectInfo) -> bytes:
    """Get the first bytes of an object. Raises: FetchError."""
    if isinstance(source, RangeSource):
        try:
            return source.fetch_range(info, 0, min(HEAD_BYTES, info.size) if info.size > 0 else HEAD_BYTES).data
        except RangeRefused:
            pass
    return source.fetch(info).data[:HEAD_BYTES]


def read_head(data: bytes) -> Head | None:
    """Read a header; None where this is none."""
    told = read_tags(data, TAGS)
    if told is None:
        return None
    numbers = [int(told[name]) if told[name].isdecimal() else 0 for name in NUMBERS]
    frames, rows, columns, bits = numbers
    return Head(
        told["PatientID"],
        told["SeriesInstanceUID"],
        told["ImageLaterality"] or told["Laterality"],
        told["ManufacturerModelName"].strip(),
        protocol_of(told["ProtocolName"], f"{told['PatientName']} {told['PatientID']}"),
        (frames or 1, rows, columns, bits),
    )


def protocol_of(text: str, person: str) -> str:
    """Return a ProtocolName as one word in small letters; "" where it may say who was imaged, or when.

    >>> protocol_of("Macular Cube 512x128", "DOE^JANE 17"), protocol_of("Doe, left", "DOE^JANE 17")
    ('macular_cube_512x128', '')
    """
    words = [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]
    names = {word for word in re.split(r"[^a-z0-9]+", person.lower()) if len(word) > 2}
    folded = "_".join(words)
    return folded if PROTOCOL.fullmatch(folded) and not names & set(words) else ""


def read_tags(data: bytes, tags: Sequence[str]) -> Mapping[str, str] | None:
    """Read elements by their keywords, as text; None where this is no DICOM file."""
    if data[128:132] != b"DICM":
        return None
    try:
        with quiet_pydicom():
            elements = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(tags))
            return {name: str(elements.get(name, "") or "") for name in tags}
    except (InvalidDicomError, *FOREIGN_ERRORS):
        return None
