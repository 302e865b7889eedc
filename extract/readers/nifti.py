"""NIfTI (.nii, .nii.gz, .hdr with .img): nibabel (extra `vendor`) reads the header, by whose sizes pixels are read."""

import logging
import math
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np

from embeddings_store.extras import require
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.foreign import damage, quiet
from extract.readers.inflate import EITHER, inflate
from extract.readers.npy import as_array
from extract.readers.one_file import require_number
from extract.readers.stack import Spacing, Stack, arrange, arrange_spacing, require_size, stack_of, to_volume
from extract.volume import Volume

MARKS: Final = ((344, b"n+1\x00"), (344, b"ni1\x00"), (4, b"n+2\x00"), (4, b"ni2\x00"))
GZIP: Final = b"\x1f\x8b"
UNITS: Final = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
HEADER_BYTES: Final = 540
SLACK: Final = 4096
"""Bytes that may stand behind the pixels: more would be frames that the header does not count."""

PACKED: Final = (".nii.gz", ".hdr.gz")


class Nifti:
    """Reads NIfTI-1 and 2. --axes names dim[1], dim[2] and dim[3], as nibabel's array has them; not the patient's."""

    name = "NIfTI"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the mark; by the name where the file is packed."""
        if head.startswith(GZIP):
            return name.casefold().endswith(PACKED)
        return any(head[offset : offset + len(mark)] == mark for offset, mark in MARKS)

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name the .img of a .hdr."""
        base = name.rpartition("/")[2]
        pair = data[344:348] == b"ni1\x00" or data[4:8] == b"ni2\x00"
        return (base[: -len(".hdr")] + ".img",) if pair and base.casefold().endswith(".hdr") else ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume."""
        return [Inside(spacing_mm=_stack(files, request).spacing_mm)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the one volume; slope and intercept are left to the preset."""
        require_number(number, 1, request)
        return to_volume(_stack(files, request), request)


def size_in_header(head: bytes, source: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give the lengths of the axes, those of length 1 at the end left out, and the type. Raises: ScanError."""
    header = _header(_beginning(head, source) if head[:2] == GZIP else head, source)
    return _size_of(header, source)


def _size_of(header: Any, source: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with damage(source, "NIfTI header", *_errors()):
        shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise RefusedScan(
            f"{source}: expected three dimensions, got {len(shape)} ({list(shape)}): save one scan a file"
        )
    return shape, dtype


def _stack(files: Sequence[ScanFile], request: Request) -> Stack:
    source = request.source
    data, pixels = _split(files, source)
    packed = data[:2] == GZIP
    header = _header(_beginning(data, source) if packed else data, source)
    shape, dtype = _size_of(header, source)
    with damage(source, "NIfTI header", *_errors()):
        offset = int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        spacing = _spacing(header)
    if dtype.kind not in "buif":
        raise RefusedScan(f"{source}: expected whole or real numbers, got {dtype}: save the scan in grey")
    require_size(shape, source)
    size, start = math.prod(shape) * dtype.itemsize, max(offset, 0)
    body = data if pixels is None else pixels
    if packed and pixels is None:
        body = inflate(bytes(data), start + size + SLACK, source)
    if not 0 <= len(body) - start - size <= SLACK:
        raise DamagedScan(f"{source}: {list(shape)} of {dtype} take {size:,} bytes, the file has {len(body) - start:,}")
    array = as_array(memoryview(body)[start : start + size], shape, dtype, fortran=True)
    arranged, note = arrange(array, request.options, source, ask=True)
    rescale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if not np.isfinite(rescale).all():
        raise DamagedScan(f"{source}: slope and intercept are not finite")
    return stack_of(arranged, notes=note, rescale=rescale, spacing_mm=arrange_spacing(spacing, request.options))


def _split(files: Sequence[ScanFile], source: str) -> tuple[FileBytes, FileBytes | None]:
    """Give the file with the header, and the pixels where they are another file."""
    headers = [file for file in files if Nifti().recognises(file.name, file.head)]
    others = [file for file in files if file not in headers]
    if len(headers) != 1 or len(others) > 1:
        raise RefusedScan(f"{source}: expected one NIfTI file, or a .hdr with its .img, got {len(files)} files")
    data = headers[0].data
    head = _beginning(data, source) if data[:2] == GZIP else data
    alone = head[344:348] == b"n+1\x00" or head[4:8] == b"n+2\x00"
    if alone == bool(others):
        raise RefusedScan(f"{source}: expected {'no further file' if alone else 'the .img of this .hdr'}")
    return data, others[0].data if others else None


def _beginning(data: FileBytes, source: str) -> bytes:
    """Unpack the header alone."""
    with damage(source, "compressed data"):
        return zlib.decompressobj(EITHER).decompress(data[: 1 << 16], HEADER_BYTES)


def _errors() -> tuple[type[Exception], ...]:
    from nibabel.spatialimages import HeaderDataError

    return (HeaderDataError,)


def _header(data: Any, source: str) -> Any:
    nib: Any = require("nibabel", f"{source}: a NIfTI file", RefusedScan)
    from nibabel.imageglobals import logger

    logger.setLevel(logging.CRITICAL)  # what it mends of a header is no matter for the user
    kind: Any = nib.Nifti2Header if data[4:6] in {b"n+", b"ni"} else nib.Nifti1Header
    with damage(source, "NIfTI header", *_errors()), quiet():
        return kind.from_fileobj(BytesIO(data[:HEADER_BYTES]), check=True)


def _spacing(header: Any) -> Spacing | None:
    """Give the steps along the three axes in mm; None where nothing but the default is there."""
    unit = header.get_xyzt_units()[0]
    steps = tuple(float(step) * UNITS[unit] for step in header.get_zooms()[:3])
    if len(steps) < 3 or (unit == "unknown" and steps == (1.0, 1.0, 1.0)):
        return None
    return steps[0], steps[1], steps[2]
