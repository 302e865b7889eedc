"""What a file is that is no DICOM file, told by its first bytes, and what to do with it."""

from mmap import mmap
from typing import Final

EXPORT: Final = "export the scan as multi-frame DICOM"
PICTURE: Final = f"no scan: {EXPORT}"

MAGIC: Final = (
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"PK\x05\x06", "an empty zip archive: leave it out"),
    (0, b"\x1f\x8b", "a gzip file: unpack it"),
    (0, b"BZh", "a bzip2 file: unpack it"),
    (0, b"\xfd7zXZ", "an xz file: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (0, b"Rar!", "a rar archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"%PDF", f"a PDF report, {PICTURE}"),
    (0, b"\xff\xd8\xff", f"a JPEG picture, {PICTURE}"),
    (0, b"\x89PNG", f"a PNG picture, {PICTURE}"),
    (0, b"GIF8", f"a GIF picture, {PICTURE}"),
    (0, b"\x00\x00\x00\x0cjP  ", f"a JPEG 2000 picture, {PICTURE}"),
    (0, b"\xff\x4f\xff\x51", f"a JPEG 2000 picture, {PICTURE}"),
    (0, b"II*\x00", f"a TIFF picture: {EXPORT}"),
    (0, b"MM\x00*", f"a TIFF picture: {EXPORT}"),
    (0, b"II+\x00", f"a TIFF picture (BigTIFF): {EXPORT}"),
    (0, b"MM\x00+", f"a TIFF picture (BigTIFF): {EXPORT}"),
    (0, b"BM", f"a BMP picture, {PICTURE}"),
    (8, b"AVI ", f"an AVI film, {PICTURE}"),
    (4, b"ftyp", f"an MP4 film, {PICTURE}"),
    (344, b"n+1\x00", f"a NIfTI file: {EXPORT}"),
    (344, b"ni1\x00", f"a NIfTI header: {EXPORT}"),
    (4, b"n+2\x00", f"a NIfTI file: {EXPORT}"),
    (4, b"ni2\x00", f"a NIfTI header: {EXPORT}"),
    (0, b"\x93NUMPY", f"a NumPy array: {EXPORT}"),
    (0, b"MATLAB 5.0", f"a MATLAB .mat file: {EXPORT}"),
    (0, b"MATLAB 7.3", f"a MATLAB .mat file (HDF5): {EXPORT}"),
    (512, b"\x89HDF\r\n", f"a MATLAB .mat file (HDF5): {EXPORT}"),
    (0, b"\x89HDF\r\n", f"an HDF5 file: {EXPORT}"),
    (0, b"HSF-OCT-", f"a Heidelberg HEYEX .vol file: {EXPORT}"),
    (0, b"CMDb", f"a Heidelberg HEYEX .e2e file: {EXPORT}"),
    (0, b"MDbMDir", f"a Heidelberg HEYEX .e2e file: {EXPORT}"),
    (4, b"FOCT", f"a Topcon .fda file: {EXPORT}"),
    (0, b"FOCT", f"a Topcon .fda file: {EXPORT}"),
    *(
        (0, head, "DICOM elements without the preamble of a DICOM file (PS3.10): export it as a file")
        for head in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x02\x00\x00\x00")
    ),
)
"""Offset, bytes, and what the file is."""


def recognise(data: bytes | mmap) -> str:
    """Name the kind of file and what to do; what is not recognised is "other bytes"."""
    if not len(data):
        return "an empty file"
    for offset, magic, name in MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    text = bytes(data[:512]).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps a server's error page: download the file again"
    if text.startswith((b"<?xml", b"<error")):
        is_error = b"<error" in text
        return "a server's error answer (XML): download the file again" if is_error else f"an XML file: {EXPORT}"
    if b"objecttype" in text and b"=" in text:
        return f"a MetaImage header (.mhd): {EXPORT}"
    return "other bytes"
