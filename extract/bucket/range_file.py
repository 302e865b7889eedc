"""An object as a file that is read in places, block by block, so that a header in the middle costs no whole object."""

import io
from typing import Any

from embeddings_store.schema import ObjectInfo
from extract.bucket.source import RangeRefused, RangeSource, Source

BLOCK = 1 << 16


class RangeFile(io.RawIOBase):
    """Blocks that came are kept. Reading raises FetchError, or RangeRefused of an object that is given whole only."""

    def __init__(self, source: RangeSource, info: ObjectInfo, head: bytes) -> None:
        self._source, self._info, self._at = source, info, 0
        self._blocks = {0: head} if len(head) == min(BLOCK, info.size) else {}

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as much of one block as there is room for."""
        number, within = divmod(self._at, BLOCK)
        if self._at >= self._info.size:
            return 0
        if number not in self._blocks:
            start = number * BLOCK
            stop = min(start + BLOCK, self._info.size)
            self._blocks[number] = self._source.fetch_range(self._info, start, stop).data
        piece = self._blocks[number][within : within + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def open_object(source: Source, info: ObjectInfo, head: bytes) -> io.BufferedReader | io.BytesIO:
    """Open an object for reading; whole, where it is small or cannot be had in parts. Raises: FetchError."""
    if len(head) == info.size:
        return io.BytesIO(head)
    if isinstance(source, RangeSource) and info.size > 0:
        file = RangeFile(source, info, head)
        try:
            file.seek(-1, io.SEEK_END)
            file.read(1)
        except RangeRefused:
            return io.BytesIO(source.fetch(info).data)
        file.seek(0)
        return io.BufferedReader(file, BLOCK)
    return io.BytesIO(source.fetch(info).data)
