"""What a file is that is no DICOM file, told by its first bytes, and what to do with it."""

from mmap import mmap
from typing import Final

MAGIC: Final = (
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"\x1f\x8b", "a gzip file: unpack it"),
    (0, b"%PDF", "a PDF report: export the scan as multi-frame DICOM"),
    (0, b"\xff\xd8\xff", "a JPEG picture: export the scan as multi-frame DICOM"),
    (0, b"\x89PNG", "a PNG picture: export the scan as multi-frame DICOM"),
    (0, b"II*\x00", "a TIFF picture: export the scan as multi-frame DICOM"),
    (0, b"MM\x00*", "a TIFF picture: export the scan as multi-frame DICOM"),
    (0, b"BM", "a BMP picture: export the scan as multi-frame DICOM"),
    (344, b"n+1\x00", "a NIfTI file: export the scan as multi-frame DICOM"),
    (344, b"ni1\x00", "a NIfTI header: export the scan as multi-frame DICOM"),
    (0, b"\x93NUMPY", "a NumPy array: export the scan as multi-frame DICOM"),
    (0, b"\x89HDF\r\n", "an HDF5 or MATLAB file: export the scan as multi-frame DICOM"),
    (512, b"\x89HDF\r\n", "a MATLAB file: export the scan as multi-frame DICOM"),
    (0, b"MATLAB 5.0", "a MATLAB file: export the scan as multi-frame DICOM"),
    (0, b"HSF-OCT-", "a Heidelberg HEYEX .vol file: export the scan as multi-frame DICOM"),
    (0, b"CMDb", "a Heidelberg .e2e file: export the scan as multi-frame DICOM"),
    (0, b"MDbMDir", "a Heidelberg .e2e file: export the scan as multi-frame DICOM"),
    (4, b"FOCT", "a Topcon .fda file: export the scan as multi-frame DICOM"),
    (0, b"FOCT", "a Topcon .fda file: export the scan as multi-frame DICOM"),
)
"""Offset, bytes, and what the file is."""


def recognise(data: bytes | mmap) -> str:
    """Name the kind of file and what to do; what is not recognised is "other bytes"."""
    if not len(data):
        return "an empty file"
    for offset, magic, name in MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    text = bytes(data[:256]).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps a server's error page: download the file again"
    return "an XML file: export the scan as multi-frame DICOM" if text.startswith(b"<?xml") else "other bytes"
