"""NumPy arrays in a zip file (.npz): only the scan and single numbers are unpacked, and never pickled objects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BufferedReader, BytesIO
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

import numpy as np
from jaxtyping import Shaped

from embeddings_store.numpy_file import LONGEST_HEADER
from extract.errors import DamagedScan, RefusedScan
from extract.readers.choice import choose_array
from extract.readers.contract import MOST_LABELS, Inside, Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.npy import as_array, read_header, require_bytes, require_plain
from extract.readers.one_file import OneFile, only
from extract.readers.stack import Stack, arrange, require_size, stack_of

MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
SUFFIX: Final = ".npy"
LONGEST_LABEL: Final = 400  # bytes


class Npz(OneFile):
    """Reads .npz: one array of three axes, or the one that --array names; numbers and words of no axes are labels."""

    name = "NumPy archive (.npz)"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the name and the mark of a zip file, or by an array that comes first in it."""
        return head.startswith(MAGIC) and (name.casefold().endswith(".npz") or _first_name(head).endswith(b".npy"))

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Unpack the scan."""
        with damage(request.source, "archive", NotImplementedError), ZipFile(BytesIO(file.data)) as archive:
            arrays = _members(archive, request.source)
            name, _, _ = _choose(archive, arrays, request)
            array = _unpack(archive, arrays[name], f"{request.source}, array {name!r}")
        array, note = arrange(array, request.options, request.source)
        return stack_of(array, notes=note)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume, with the numbers and words that lie with it."""
        (inside,) = super().volumes(files, request)
        return [replace(inside, labels=read_labels(only(files, self.name, request), request.source))]


def look_at_archive(
    stream: BufferedReader | BytesIO, request: Request
) -> tuple[tuple[int, ...], np.dtype[Any], dict[str, float | str]]:
    """Give shape and type of the scan, and the labels, without unpacking the scan. Raises: ScanError."""
    with damage(request.source, "archive", NotImplementedError), ZipFile(stream) as archive:
        _, shape, dtype = _choose(archive, _members(archive, request.source), request)
        require_plain(dtype, request.source)
        require_size(shape, request.source)
        return shape, dtype, _labels(archive, request.source)


def read_labels(file: ScanFile, source: str) -> dict[str, float | str]:
    """Read the numbers and words of no axes, or of one value. Raises: DamagedScan."""
    with damage(source, "archive", NotImplementedError), ZipFile(BytesIO(file.data)) as archive:
        return _labels(archive, source)


def _labels(archive: ZipFile, source: str) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, info in list(_members(archive, source).items())[:MOST_LABELS]:
        if info.file_size > LONGEST_HEADER + LONGEST_LABEL:
            continue
        shape, _, dtype = _head(archive, info, source)
        if dtype.hasobject or dtype.kind not in "buifU" or set(shape) - {1} or dtype.itemsize > LONGEST_LABEL:
            continue
        with archive.open(info) as stream:
            read_header(stream, source)
            value = np.frombuffer(stream.read(dtype.itemsize), dtype)[0]
        found[name] = str(value) if dtype.kind == "U" else float(value)
    return found


def _choose(
    archive: ZipFile, arrays: Mapping[str, ZipInfo], request: Request
) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
    heads = {name: _head(archive, info, request.source) for name, info in arrays.items()}
    name = choose_array({name: shape for name, (shape, _, _) in heads.items()}, request, "archive")
    return name, heads[name][0], heads[name][2]


def _members(archive: ZipFile, source: str) -> dict[str, ZipInfo]:
    infos = [info for info in archive.infolist() if info.filename.endswith(SUFFIX)]
    arrays = {info.filename.removesuffix(SUFFIX): info for info in infos}
    if len(arrays) < len(infos):
        raise DamagedScan(f"{source}: the archive holds two arrays of one name")
    if any(info.flag_bits & 1 for info in infos):
        raise RefusedScan(f"{source}: the archive is encrypted: save it without a password")
    return arrays


def _head(archive: ZipFile, info: ZipInfo, source: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    with archive.open(info) as stream:
        return read_header(BytesIO(stream.read(LONGEST_HEADER + 16)), source)


def _unpack(archive: ZipFile, info: ZipInfo, source: str) -> Shaped[np.ndarray, "..."]:
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream, source)
        require_plain(dtype, source)
        size = require_bytes(shape, dtype, info.file_size - stream.tell(), source)
        data = stream.read(size)
        if stream.read(1) or len(data) != size:  # the end is reached, so that the checksum is compared
            raise DamagedScan(f"{source}: expected {size:,} bytes, got {len(data):,}")
    return as_array(data, shape, dtype, fortran=fortran)


def _first_name(head: bytes) -> bytes:
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]
