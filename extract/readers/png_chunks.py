"""Whether a PNG is whole: Pillow decodes pixels without comparing their checksums."""

import zlib
from typing import Final

from extract.dicom.header import FileBytes

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
LAST: Final = b"IEND"


def check_png(data: FileBytes) -> None:
    """Walk the chunks to the last one. Source: PNG specification, 5.3. Raises: ValueError."""
    at, name = len(SIGNATURE), b""
    while name != LAST:
        size, name = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        end = at + 8 + size
        if end + 4 > len(data):
            raise ValueError("it breaks off")
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"the checksum of its part {name!r} is wrong")
        at = end + 4
