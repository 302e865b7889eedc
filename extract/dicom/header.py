"""The header of a file: an allow-list of elements, and where its pixel data lie."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from mmap import mmap
from threading import Lock
from typing import Any, Final, TypeAlias

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

from embeddings_store.schema import Note
from extract.dicom.recognise import recognise
from extract.errors import NoPixelData, NotDicom, ShortPixelData, TooLarge, UndecodablePixels, UnsupportedSyntax

COLOURS: Final = ("Red", "Green", "Blue")
ALLOWED: Final = (
    "SOPClassUID",  # the kind of object; no instance of one
    "Modality",
    "ImageType",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ConcatenationFrameOffsetNumber",
    "Manufacturer",  # with the next two: only to know a phantom or a Cirrus
    "SeriesDescription",
    "ImageComments",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "InstanceNumber",  # of a frame in its series, where each is a file
    "Laterality",
    "ImageLaterality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PlanarConfiguration",
    "PixelRepresentation",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in COLOURS for part in ("Descriptor", "Data")),
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
COMPARED: Final = ("SeriesInstanceUID", "ConcatenationUID", "SOPInstanceUIDOfConcatenationSource")
"""UIDs that tell which files belong together: compared with one another, never shown and never kept.

Nothing but these two lists is parsed of a file: no name, birth date, identifier or UID of a patient, study or instance.
"""

READ_TAGS: Final[list[BaseTag | int]] = [Tag(keyword) for keyword in (*ALLOWED, *COMPARED)]
PIXEL_DATA: Final = 0x7FE00010
FLOAT_PIXEL_DATA: Final = 0x7FE00008
ITEM_BYTES: Final = b"\xfe\xff\x00\xe0"  # (FFFE,E000), which begins a series of items
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
MAX_INFLATED_BYTES: Final = 2 << 30  # eight times the largest scan: a deflated file that grows further is no scan
FOREIGN_ERRORS: Final = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    BytesLengthException,
)
"""What pydicom and its decoders raise on damaged bytes."""

FileBytes: TypeAlias = bytes | mmap
"""A file; as a map it may have holes where nobody looks, and is never copied as a whole."""

VRS: Final = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)
LONG_VRS: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
DICOMDIR: Final = "1.2.840.10008.1.3.10"
MEDIA_CLASS: Final = b"\x02\x00\x02\x00"
SHORTEST_ELEMENT: Final = 8
META_LENGTH: Final = b"\x02\x00\x00\x00"
SYNTAX: Final = b"\x02\x00\x10\x00"

_PYDICOM = Lock()


@dataclass(frozen=True)
class Header:
    """The allowed elements, and the value of PixelData: a view of the bytes, never a copy.

    encapsulated: the value is a series of items; else plain samples. defined_length: the element says how long it is.
    byte_swapped: 8-bit samples in big-endian words.
    pixel_span: where the value begins and ends in the file; a series of items ends with the file at the latest.
    """

    elements: Dataset
    syntax: UID
    little_endian: bool
    pixel_data: memoryview
    encapsulated: bool
    defined_length: bool
    byte_swapped: bool
    pixel_span: tuple[int, int]
    sop_class: str = ""
    notes: Note = Note.NONE

    @property
    def plain_bytes(self) -> int | None:
        """Size of uncompressed pixel data, however much of it has come; None of compressed."""
        return None if self.encapsulated else self.pixel_span[1] - self.pixel_span[0]


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings from the user: what matters of them is checked here and becomes a note or an error.

    The lock is needed as warnings.catch_warnings is not thread-safe.
    """
    with _PYDICOM, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(data: FileBytes, source: str, *, size: int | None = None) -> Header:
    """Parse the allowed elements and find PixelData. size: of the whole file, where ``data`` is only its beginning.

    Raises: NotDicom, NoPixelData, ShortPixelData, UnsupportedSyntax, TooLarge (a deflated file that grows too far).
    """
    meta = read_file_meta(data, source)
    syntax, start = meta.syntax, meta.start
    if meta.sop_class == DICOMDIR:
        raise NoPixelData(f"{source}: a DICOMDIR, which lists files and holds no pixels: leave it out")
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflate(data, start, source), 0
    implicit = is_implicit(data, start, syntax)
    stream: Any = data if isinstance(data, mmap) else BytesIO(data)
    stream.seek(start)
    try:
        with quiet_pydicom():
            elements = read_dataset(
                stream, implicit, _is_little_endian(syntax), stop_when=_at_pixels, specific_tags=READ_TAGS
            )
    except FOREIGN_ERRORS as error:
        raise NotDicom(f"{source}: the DICOM header breaks off or is damaged ({type(error).__name__})") from error
    found = _locate_pixels(
        data, len(data) if size is None else size, stream.tell(), elements, syntax, source, implicit=implicit
    )
    disagrees = implicit != (syntax == ImplicitVRLittleEndian)
    notes = meta.notes | (Note.SYNTAX_DISAGREES if disagrees else Note.NONE)
    with quiet_pydicom():
        sop_class = read_uid(elements, "SOPClassUID") or meta.sop_class
    return replace(found, sop_class=sop_class, notes=notes)


def read_uid(elements: Dataset, keyword: str) -> str:
    """Read a UID; missing and malformed are ""."""
    try:
        return str(elements.get(keyword) or "").strip("\0 ")
    except FOREIGN_ERRORS:
        return ""


def is_implicit(data: FileBytes, start: int, syntax: UID) -> bool:
    """Tell whether the data set has implicit VRs, by its first element, whatever the transfer syntax says."""
    said = bool(syntax == ImplicitVRLittleEndian)
    head = bytes(data[start : start + 8])
    if not _is_little_endian(syntax) or len(head) < 8:
        return said
    return head[4:6] not in VRS if said or head[4:6] in VRS or not head[4:6].isalpha() else said


def _is_little_endian(syntax: UID) -> bool:
    return bool(syntax != ExplicitVRBigEndian)


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >= FLOAT_PIXEL_DATA


@dataclass(frozen=True)
class FileMeta:
    """What the file meta group tells; start: where the data set begins."""

    syntax: UID
    start: int
    sop_class: str
    notes: Note


def read_file_meta(data: FileBytes, source: str) -> FileMeta:
    """Read the file meta group element by element (DICOM PS3.10, 7.1): its own length may be missing or wrong.

    Raises: NotDicom, UnsupportedSyntax.
    """
    if data[128:132] != b"DICM" or data[132:134] != b"\x02\x00":
        raise NotDicom(f"{source}: expected a DICOM file (DICM at byte 128), got {recognise(data)}")
    position, values = 132, dict[bytes, bytes]()
    while data[position : position + 2] == b"\x02\x00":
        tag, vr = bytes(data[position : position + 4]), bytes(data[position + 4 : position + 6])
        if vr not in VRS:
            raise NotDicom(f"{source}: the DICOM file meta group is damaged")
        head = 12 if vr in LONG_VRS else 8
        start = position + head
        position = start + int.from_bytes(data[position + (8 if head == 12 else 6) : start], "little")
        if len(data) - position < SHORTEST_ELEMENT:
            raise NotDicom(f"{source}: the file ends inside its meta group, after {len(data)} bytes")
        values[tag] = bytes(data[start:position])
    sop_class, named = (values.get(tag, b"").decode("ascii", "replace").strip("\0 ") for tag in (MEDIA_CLASS, SYNTAX))
    syntax = UID(named, validation_mode=IGNORE)
    if not _is_transfer_syntax(syntax):
        told = str(syntax) if syntax.is_valid else "(none, or malformed)"
        raise UnsupportedSyntax(f"{source}: no decoder for the transfer syntax {told}")
    length = values.get(META_LENGTH, b"")
    right = len(length) == 4 and position == 144 + int.from_bytes(length, "little")
    return FileMeta(syntax, position, sop_class, Note.NONE if right else Note.META_LENGTH_WRONG)


def _is_transfer_syntax(syntax: UID) -> bool:
    return bool(syntax.is_valid and not syntax.is_private and syntax.is_transfer_syntax)


def _inflate(data: FileBytes, start: int, source: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data[start:], MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise NotDicom(f"{source}: the deflated data set is damaged") from error
    if inflater.unconsumed_tail:
        raise TooLarge(f"{source}: the deflated data set grows beyond {MAX_INFLATED_BYTES:,} bytes")
    if not inflater.eof:
        raise ShortPixelData(f"{source}: the deflated data set breaks off")
    return inflated


def _locate_pixels(
    data: FileBytes, size: int, position: int, elements: Dataset, syntax: UID, source: str, *, implicit: bool
) -> Header:
    little = _is_little_endian(syntax)
    order = "<" if little else ">"
    head = data[position : position + 12]
    if len(head) < 8:
        with quiet_pydicom():
            kind = UID(read_uid(elements, "SOPClassUID"), validation_mode=IGNORE)
        of = f"; it is of {kind.name}" if kind.type else ""
        raise NoPixelData(f"{source}: the file ends without PixelData (7FE0,0010){of}")
    group, element = struct.unpack(f"{order}HH", head[:4])
    if group << 16 | element != PIXEL_DATA:
        raise NoPixelData(f"{source}: expected PixelData (7FE0,0010), got ({group:04X},{element:04X})")
    if not implicit and len(head) < 12:
        raise ShortPixelData(f"{source}: the file ends inside the PixelData element's head")
    length = struct.unpack(f"{order}L", head[4:8] if implicit else head[8:12])[0]
    start = position + (8 if implicit else 12)
    defined = length != UNDEFINED_LENGTH
    encapsulated = not defined or (data[start : start + len(ITEM_BYTES)] == ITEM_BYTES and syntax.is_encapsulated)
    _check_length(encapsulated, length, size - start, syntax, source)
    stop = min(size, start + length) if defined else size
    swapped = not little and head[4:6] == b"OW"
    value = memoryview(data).toreadonly()[start:stop]
    return Header(elements, syntax, little, value, encapsulated, defined, swapped, (start, stop))


def _check_length(encapsulated: bool, length: int, available: int, syntax: UID, source: str) -> None:
    if encapsulated != syntax.is_encapsulated:
        kind = "items" if encapsulated else "plain samples"
        raise UndecodablePixels(f"{source}: the transfer syntax {syntax} contradicts PixelData made of {kind}")
    if not encapsulated and length > available:
        raise ShortPixelData(f"{source}: PixelData declares {length:,} bytes, the file ends after {available:,}")
