"""TIFF: the pages of one file are the B-scans of one volume; tifffile knows what its library for pictures does not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Int, Shaped

from embeddings_store.schema import Note
from extract.dicom.header import FileBytes
from extract.errors import RefusedScan
from extract.readers.foreign import damage, quiet
from extract.readers.read_options import Colours
from extract.readers.stack import Stack, one_channel, require_size

MAGIC: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
REDUCED: Final = 1  # of NewSubfileType: a thumbnail of another page
PALETTE: Final = 3
UNCOMPRESSED: Final = 1
PADDING: Final = 16
"""Bytes that may fill up the last strip."""


@dataclass(frozen=True)
class Pages(Stack):
    """The pages of a TIFF. size: rows and columns of each."""

    size: tuple[int, int] = (0, 0)


def open_pages(data: FileBytes, source: str, colours: Colours = "refuse") -> Pages:
    """Look at every page of a TIFF and say how its pixels are read. Raises: ScanError."""
    with _opened(data, source) as file:
        pages: list[Any] = [page for page in file.pages if not int(page.subfiletype) & REDUCED]
        if len(file.pages) != count_directories(data):
            raise ValueError("its directories of pages contradict one another")
        shapes = [tuple(map(int, page.shape)) for page in pages]
        kinds = sorted(
            {f"{page.dtype} {page.photometric.name if page.photometric is not None else ''}" for page in pages}
        )
        declared = int((file.imagej_metadata or {}).get("images", len(pages)))
    if not pages:
        raise RefusedScan(f"{source}: the TIFF holds no picture")
    other = next((number for number, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None or len(kinds) > 1:
        what = (
            f"page {other + 1} is {list(shapes[other])}, the first {list(shapes[0])}"
            if other is not None
            else str(kinds)
        )
        raise RefusedScan(f"{source}: expected pages of one size and kind, got others: {what}")
    if declared != len(pages):
        raise RefusedScan(
            f"{source}: the TIFF says {declared} images and has {len(pages)} pages: save it as a plain multi-page TIFF"
        )
    shape, page = shapes[0], pages[0]
    if page.dtype is None or page.dtype.kind not in "buif":
        raise RefusedScan(f"{source}: expected whole or real numbers, got {page.dtype}")
    if int(page.photometric or 0) == PALETTE:
        raise RefusedScan(f"{source}: a TIFF with a palette: export it in grey")
    if len(shape) == 3 and shape[0] in {3, 4} and page.planarconfig == 2:
        raise RefusedScan(f"{source}: a TIFF whose colours lie in planes: export it in grey")
    if len(shape) != 2 and not (len(shape) == 3 and shape[-1] in {2, 3, 4}):
        raise RefusedScan(f"{source}: expected pages of rows and columns, got {list(shape)}")
    require_size(shape, source, items=len(pages))
    return Pages(len(pages), _reader(data, source, colours), size=(shape[0], shape[1]))


def has_pages(stream: BufferedReader | BytesIO, source: str) -> bool:
    """Say whether a TIFF holds several pictures, without reading them. Raises: DamagedScan."""
    with _opened(stream, source) as file:
        found = (page for page in file.pages if not int(page.subfiletype) & REDUCED)
        return len(list(islice(found, 2))) > 1


@contextmanager
def _opened(data: FileBytes | BufferedReader | BytesIO, source: str) -> Iterator[Any]:
    """Open a TIFF; what the library only logs is checked here."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    stream = data if isinstance(data, BufferedReader | BytesIO) else BytesIO(data)
    with damage(source, "TIFF", tifffile.TiffFileError), quiet(), tifffile.TiffFile(stream) as file:
        yield file


def count_directories(data: FileBytes) -> int:
    """Count the pages of a TIFF; the library leaves out what a broken chain no longer reaches. Raises: ValueError."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\0", b"\0+"}
    entry, count_size, size = (20, 8, 8) if big else (12, 2, 4)
    at, seen = int.from_bytes(data[8:16] if big else data[4:8], order), set[int]()
    while at:
        end = at + count_size + entry * int.from_bytes(data[at : at + count_size], order)
        if at in seen or end + size > len(data):
            raise ValueError(f"page {len(seen) + 1} lies behind the end of the file")
        seen.add(at)
        at = int.from_bytes(data[end : end + size], order)
    return len(seen)


def _reader(data: FileBytes, source: str, colours: Colours) -> Any:
    def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
        with _opened(data, source) as file:
            pages: list[Any] = [page for page in file.pages if not int(page.subfiletype) & REDUCED]
            frames = np.stack([_read_page(pages[number], len(data)) for number in numbers.tolist()])
            inverted = int(pages[0].photometric or 0) == 0 and frames.dtype.kind in {"b", "u"}
        grey, note = (frames, Note.NONE) if frames.ndim == 3 else one_channel(frames, source, colours)
        if grey.dtype == bool:
            grey = grey.astype(np.uint8) * 255
        return (np.iinfo(grey.dtype).max - grey if inverted else grey), note

    return read


def _read_page(page: Any, size: int) -> Shaped[np.ndarray, "rows columns *channels"]:
    """Read a page of which every strip is there: the library would fill what is missing with zeros."""
    ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size or min(page.databytecounts) < 1:
        raise ValueError("a strip of pixels lies behind the end of the file, or is empty")
    if page.compression == UNCOMPRESSED and not page.is_tiled and sum(page.databytecounts) > page.nbytes + PADDING:
        raise ValueError("its strips hold more rows than it says")
    pixels: np.ndarray = page.asarray()
    return pixels
