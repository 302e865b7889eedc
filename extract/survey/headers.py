"""What the first bytes of a file say: its kind, and where they say it, frames, rows, columns, bits and labels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from embeddings_store.schema import ObjectInfo, Reading
from extract.bucket.range_file import open_object
from extract.bucket.source import Source
from extract.dicom.header import FOREIGN_ERRORS
from extract.errors import ScanError
from extract.layouts.dicom_heads import read_head
from extract.readers import heyex_vol, nifti, nrrd
from extract.readers.contract import Request
from extract.readers.npy import read_header
from extract.readers.npz import look_at_archive
from extract.scan import read_options

Size = tuple[int, int, int, int]
UNKNOWN = (0, 0, 0, 0)
MARKS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"BM", "BMP"),
    (128, b"DICM", "DICOM"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"PK\x03\x04", "NumPy archive"),
    (0, b"MATLAB 5.0", "MATLAB 5"),
    (0, b"MATLAB 7.3", "MATLAB 7.3"),
    (0, b"\x89HDF", "MATLAB 7.3"),
    (0, b"NRRD", "NRRD"),
)


@dataclass(frozen=True)
class Header:
    """frames, rows, columns and bits, 0 unknown; labels: numbers and words that lie in the file with the voxels."""

    size: Size = UNKNOWN
    labels: Mapping[str, float | str] = field(default_factory=dict)


def container_of(head: bytes) -> str:
    """Name the kind of file by its first bytes; "" for one that they do not tell."""
    return next((name for at, mark, name in MARKS if head[at : at + len(mark)] == mark), "")


def header_of(source: Source, info: ObjectInfo, head: bytes, reading: Reading) -> Header:
    """Read what a header has. Raises: FetchError; a ScanError where an extraction would refuse the file by it."""
    kind = container_of(head)
    if kind == "NumPy archive" and info.key.lower().endswith(".npz"):
        request = Request(options=read_options(reading))
        with open_object(source, info, head) as stream:
            shape, dtype, labels = look_at_archive(stream, request)
        return Header(_arranged(shape, dtype, reading), labels)
    if kind == "TIFF" and info.size > len(head):  # its directory may stand at the end
        head = source.fetch(info).data
    try:
        return Header(_size(kind, info.key.lower(), head, reading))
    except (Image.DecompressionBombError, ScanError, *FOREIGN_ERRORS):
        return Header()


def _size(kind: str, name: str, head: bytes, reading: Reading) -> Size:
    if kind in {"PNG", "JPEG", "BMP", "TIFF"}:
        return _of_picture(head)
    if kind == "DICOM":
        told = read_head(head)
        return told.size if told else UNKNOWN
    if head.startswith(heyex_vol.MAGIC):
        return (*heyex_vol.size_in_header(head, "file"), 8)
    if re.match(rb"(?i)\s*ObjectType", head):
        return _of_metaimage(head, reading)
    array = _array_of(kind, name, head)
    return UNKNOWN if array is None else _arranged(*array, reading)


def _array_of(kind: str, name: str, head: bytes) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Give the lengths of the stored axes and the type."""
    if kind == "NumPy":
        shape, _, dtype = read_header(BytesIO(head), "file")
        return shape, dtype
    if kind == "NRRD":
        return nrrd.size_in_header(head, "file")
    return nifti.size_in_header(head, "file") if nifti.Nifti().recognises(name, head) else None


def _of_picture(data: bytes) -> Size:
    with Image.open(BytesIO(data)) as picture:
        bits = 16 if picture.mode.startswith("I") else 32 if picture.mode == "F" else 8
        return int(getattr(picture, "n_frames", 1)), picture.height, picture.width, bits


def _arranged(shape: tuple[int, ...], dtype: np.dtype[Any], reading: Reading) -> Size:
    if len(shape) not in {3, 4}:
        return UNKNOWN
    frames, rows, columns = (int(shape[axis]) for axis in read_options(reading).order)
    return frames, rows, columns, 8 * dtype.itemsize


def _of_metaimage(data: bytes, reading: Reading) -> Size:
    told = dict(re.findall(r"(?m)^\s*(\w+)\s*=\s*([^\r\n]*?)\s*$", data[:4096].decode("latin-1")))
    columns, rows, frames = (int(number) for number in told["DimSize"].split())
    kinds = {"MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_FLOAT": "f4"}
    size = _arranged((frames, rows, columns), np.dtype(kinds.get(told.get("ElementType", ""), "u1")), reading)
    return size if told.get("ElementType", "") in kinds else (*size[:3], 0)
