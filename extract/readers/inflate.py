"""Unpacking what a header says is so long, and not a byte more: a bomb ends at the limit."""

import bz2
import zlib

from extract.errors import DamagedScan, TooLarge
from extract.readers.foreign import damage

EITHER = 47  # zlib's word for "gzip or zlib, as the stream says"


def inflate(data: bytes | memoryview, most: int, source: str) -> bytes:
    """Unpack a gzip or zlib stream of at most this many bytes, its checksum compared. Raises: DamagedScan, TooLarge."""
    inflater = zlib.decompressobj(EITHER)
    with damage(source, "compressed data"):
        found = inflater.decompress(data, most + 1)
        if inflater.unconsumed_tail or len(found) > most:
            raise TooLarge(f"{source}: the compressed data grow beyond the {most:,} bytes that belong there")
        if not inflater.eof:
            raise DamagedScan(f"{source}: the compressed data break off after {len(found):,} bytes")
    return found


def expand_bz2(data: bytes | memoryview, most: int, source: str) -> bytes:
    """Unpack a bzip2 stream likewise."""
    expander = bz2.BZ2Decompressor()
    with damage(source, "compressed data"):
        found = expander.decompress(data, most + 1)
    if len(found) > most:
        raise TooLarge(f"{source}: the compressed data grow beyond the {most:,} bytes that belong there")
    if not expander.eof:
        raise DamagedScan(f"{source}: the compressed data break off after {len(found):,} bytes")
    return found
