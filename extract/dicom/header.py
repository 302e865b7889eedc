"""The header of a file: an allow-list of elements, and where its pixel data lie."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from threading import Lock
from typing import Any, Final, TypeAlias

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from extract.errors import NoPixelData, NotDicom, ShortPixelData, TooLarge, UndecodablePixels, UnsupportedSyntax

ALLOWED: Final = (
    "Manufacturer",  # with the next two: only to know a phantom or a Cirrus
    "SeriesDescription",
    "ImageComments",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
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
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""Nothing else of a file is parsed: no name, birth date, identifier or UID of a patient, study or instance."""

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
    syntax, start = read_file_meta(data, source)
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflate(data, start, source), 0
    stream: Any = data if isinstance(data, mmap) else BytesIO(data)
    stream.seek(start)
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in ALLOWED]
    try:
        with quiet_pydicom():
            elements = read_dataset(
                stream, _is_implicit(syntax), _is_little_endian(syntax), stop_when=_at_pixels, specific_tags=tags
            )
    except FOREIGN_ERRORS as error:
        raise NotDicom(f"{source}: the DICOM header breaks off or is damaged ({type(error).__name__})") from error
    return _locate_pixels(data, len(data) if size is None else size, stream.tell(), elements, syntax, source)


def _is_implicit(syntax: UID) -> bool:
    return bool(syntax == ImplicitVRLittleEndian)


def _is_little_endian(syntax: UID) -> bool:
    return bool(syntax != ExplicitVRBigEndian)


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >= FLOAT_PIXEL_DATA


def read_file_meta(data: FileBytes, source: str) -> tuple[UID, int]:
    """Give the transfer syntax and where the data set starts (DICOM PS3.10, 7.1).

    Raises: NotDicom, UnsupportedSyntax.
    """
    if data[128:132] != b"DICM" or data[132:140] != b"\x02\x00\x00\x00UL\x04\x00" or len(data) < 144:
        raise NotDicom(f"{source}: expected a DICOM file (DICM at byte 128, then the file meta group), got other bytes")
    start = 144 + int.from_bytes(data[140:144], "little")
    if len(data) < start:
        raise NotDicom(f"{source}: the file ends inside its meta group, after {len(data)} bytes")
    try:
        with quiet_pydicom():
            meta = dcmread(BytesIO(data[:start])).file_meta
            syntax = UID(meta.get("TransferSyntaxUID", ""))
    except (InvalidDicomError, *FOREIGN_ERRORS) as error:
        raise NotDicom(f"{source}: the DICOM file meta group is damaged ({type(error).__name__})") from error
    if not _is_transfer_syntax(syntax):
        named = str(syntax) if syntax.is_valid else "(none, or malformed)"
        raise UnsupportedSyntax(f"{source}: no decoder for the transfer syntax {named}")
    return syntax, start


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


def _locate_pixels(data: FileBytes, size: int, position: int, elements: Dataset, syntax: UID, source: str) -> Header:
    implicit, little = _is_implicit(syntax), _is_little_endian(syntax)
    order = "<" if little else ">"
    head = data[position : position + 12]
    if len(head) < 8:
        raise NoPixelData(f"{source}: the file ends without PixelData (7FE0,0010)")
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
