"""What the first bytes of a file say: its kind, and where they say it, frames, rows, columns and bits."""

import io
import re
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from embeddings_store.schema import ObjectInfo, Reading
from extract.bucket.source import RangeRefused, RangeSource, Source
from extract.dicom.header import FOREIGN_ERRORS, quiet_pydicom

HEAD_BYTES = 1 << 16
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


def head_of(source: Source, info: ObjectInfo) -> bytes:
    """Get the first bytes of an object. Raises: FetchError."""
    if isinstance(source, RangeSource):
        try:
            return source.fetch_range(info, 0, min(HEAD_BYTES, info.size) if info.size > 0 else HEAD_BYTES).data
        except RangeRefused:
            pass
    return source.fetch(info).data[:HEAD_BYTES]


def container_of(head: bytes) -> str:
    """Name the kind of file by its first bytes; "" for one that they do not tell."""
    return next((name for at, mark, name in MARKS if head[at : at + len(mark)] == mark), "")


def size_of_head(source: Source, info: ObjectInfo, head: bytes, reading: Reading) -> tuple[int, int, int, int]:
    """Give frames, rows, columns and bits as far as a header has them, else zeros. Raises: FetchError."""
    kind = container_of(head)
    if kind == "TIFF" and info.size > len(head):  # its directory may stand at the end
        head = source.fetch(info).data
    try:
        if kind in {"PNG", "JPEG", "BMP", "TIFF"}:
            return _of_picture(head)
        if kind == "DICOM":
            return _of_dicom(head)
        if kind == "NumPy":
            return _of_array(head, reading)
        return _of_metaimage(head) if re.match(rb"(?i)\s*ObjectType", head) else UNKNOWN
    except (InvalidDicomError, Image.DecompressionBombError, *FOREIGN_ERRORS):
        return UNKNOWN


def _of_picture(data: bytes) -> tuple[int, int, int, int]:
    with Image.open(BytesIO(data)) as picture:
        bits = 16 if picture.mode.startswith("I") else 32 if picture.mode == "F" else 8
        return int(getattr(picture, "n_frames", 1)), picture.height, picture.width, bits


def _of_dicom(data: bytes) -> tuple[int, int, int, int]:
    with quiet_pydicom():
        tags = ["NumberOfFrames", "Rows", "Columns", "BitsAllocated"]
        elements = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=tags)
        frames, rows, columns, bits = (int(elements.get(name) or 0) for name in tags)
    return frames or 1, rows, columns, bits


def _of_array(data: bytes, reading: Reading) -> tuple[int, int, int, int]:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    axes = reading.axes or ("frames", "rows", "columns")
    if len(shape) not in {3, 4}:
        return UNKNOWN
    frames, rows, columns = (int(shape[axes.index(name)]) for name in ("frames", "rows", "columns"))
    return frames, rows, columns, 8 * dtype.itemsize


def _of_metaimage(data: bytes) -> tuple[int, int, int, int]:
    told = dict(re.findall(r"(?m)^\s*(\w+)\s*=\s*([^\r\n]*?)\s*$", data[:4096].decode("latin-1")))
    columns, rows, frames = (int(number) for number in told["DimSize"].split())
    bits = {"MET_UCHAR": 8, "MET_CHAR": 8, "MET_USHORT": 16, "MET_SHORT": 16}.get(told.get("ElementType", ""), 0)
    return frames, rows, columns, bits
