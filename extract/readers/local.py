"""A scan on this machine: a file with what belongs to it, or a folder that is one volume."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from embeddings_store.errors import UsageError
from embeddings_store.regular_file import require_regular
from embeddings_store.terminal.console import say
from extract.dicom.reader import FrameChooser
from extract.errors import IncompleteConcatenation, RefusedScan, ScanError
from extract.parts import parts_beside
from extract.readers.contract import ScanFile
from extract.readers.open import companions, read_scan, volumes_in
from extract.readers.read_options import ReadOptions
from extract.volume import Volume

SYSTEM_FILES: Final = frozenset({"thumbs.db", "desktop.ini"})
UID: Final = re.compile(r"[0-9]+(\.[0-9]+){4,}")


def read_local(
    path: Path,
    options: ReadOptions,
    *,
    volume: int | None = None,
    frames: FrameChooser | None = None,
    allowed: Collection[str] = (),
) -> Volume:
    """Read a file, or a folder as one volume. volume: from 1, of those in the file; None: the only one.

    Raises: UsageError where nothing can be read; a ScanError that names the file, its UIDs shortened.
    """
    files, name = local_files(path), UID.sub(lambda found: f"{found[0][:6]}...", path.name)
    try:
        if volume is None:
            _require_one(files, options)
        number = (volume or 1) - 1
        try:
            found = read_scan(files, frames=frames, options=options, allowed=allowed, number=number)
        except IncompleteConcatenation:
            files += [ScanFile(one.name, one.read_bytes()) for one in parts_beside(path, files[0].data)]
            found = read_scan(files, frames=frames, options=options, allowed=allowed, number=number)
            say(f"note: the volume was joined from {len(files)} parts in the folder of {name}")
    except ScanError as error:
        raise type(error)(f"{name}{str(error).removeprefix('file')}") from error
    return replace(found, source=name)


def local_files(path: Path) -> list[ScanFile]:
    """Get the files of a scan: all of a folder but the system's own, or a file and what its header names.

    Raises: UsageError.
    """
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.is_file() and not is_system_file(one.name))
        if not found:
            raise UsageError(f"{path}: expected a folder of pictures or DICOM files, got one without files")
        return [_load(one) for one in found]
    first = _load(path)
    try:
        names = companions(first.name, first.data)
    except ScanError:  # said again, with the name, by the one that reads
        names = ()
    return [first, *(_load(path.with_name(name)) for name in names if path.with_name(name).is_file())]


def is_system_file(name: str) -> bool:
    """Tell whether a file is the operating system's: hidden, AppleDouble, thumbnails."""
    return name.startswith(".") or name.casefold() in SYSTEM_FILES


def _load(path: Path) -> ScanFile:
    try:
        require_regular(path)
        return ScanFile(path.name, path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _require_one(files: list[ScanFile], options: ReadOptions) -> None:
    inside = volumes_in(files, options=options)
    if len(inside) > 1:
        listed = ", ".join(f"{number} (eye {one.eye})" for number, one in enumerate(inside, 1))
        raise RefusedScan(f"file: it holds {len(inside)} volumes: choose one with --volume: {listed}")
