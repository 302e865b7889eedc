"""MetaImage (.mhd with .raw or .zraw, .mha): a header of text, then the pixels, x fastest."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.inflate import inflate
from extract.readers.one_file import require_number
from extract.readers.raw_block import (
    LONGEST_HEADER,
    Block,
    pixel_file,
    real_numbers,
    require_known,
    require_plain_name,
    whole_numbers,
)
from extract.readers.stack import Spacing, Stack, arrange, arrange_spacing, stack_of, to_volume
from extract.volume import Volume

LAST: Final = "elementdatafile"
LOCAL: Final = "local"
TYPES: Final = {
    "met_uchar": "u1", "met_char": "i1", "met_ushort": "u2", "met_short": "i2", "met_uint": "u4", "met_int": "i4",
    "met_ulong_long": "u8", "met_long_long": "i8", "met_float": "f4", "met_double": "f8",
}  # fmt: skip


class MetaImage:
    """Reads MetaImage. --axes names z, y and x of DimSize, the slowest first, as SimpleITK's arrays have them."""

    name = "MetaImage"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the header's first words."""
        text = head[:2048].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
        return text.startswith((b"objecttype", b"ndims", b"comment")) and b"=" in text and b"dim" in text

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name the file of the pixels."""
        fields, _ = _fields(bytes(data[:LONGEST_HEADER]), "header")
        place = fields[LAST]
        if place.casefold() == LOCAL:
            return ()
        require_plain_name(place, "header")
        return (place,)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume."""
        return [Inside(spacing_mm=_stack(files, request).spacing_mm)]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the one volume."""
        require_number(number, 1, request)
        return to_volume(_stack(files, request), request)


def _stack(files: Sequence[ScanFile], request: Request) -> Stack:
    source = request.source
    headers = [file for file in files if MetaImage().recognises(file.name, file.head)]
    if len(headers) != 1:
        raise RefusedScan(f"{source}: expected one MetaImage header, got {len(headers)} among {len(files)} files")
    fields, end = _fields(bytes(headers[0].data[:LONGEST_HEADER]), source)
    block = _block(fields, source)
    if fields[LAST].casefold() == LOCAL:
        data = memoryview(headers[0].data)[end:]
    else:
        data = memoryview(pixel_file(fields[LAST], files, headers[0], source).data)
    skip = real_numbers(fields.get("headersize", "0"))
    if skip is None or len(skip) != 1 or not -1 <= skip[0] <= len(data) or skip[0] % 1:
        raise DamagedScan(
            f"{source}: expected HeaderSize to be -1 or bytes in the file, got {fields['headersize'][:40]!r}"
        )
    if skip[0] == -1:
        size = int(np.prod(block.lengths, dtype=object)) * block.dtype.itemsize
        data = data[max(len(data) - size, 0) :]
    else:
        data = data[int(skip[0]) :]
    array, note = arrange(block.read(data, source), request.options, source)
    return stack_of(array, notes=note, spacing_mm=arrange_spacing(_spacing(fields), request.options))


def _fields(head: bytes, source: str) -> tuple[dict[str, str], int]:
    """Read the lines of the header to the one that says where the pixels are; also give where it ends."""
    fields, position = dict[str, str](), 3 if head.startswith(b"\xef\xbb\xbf") else 0
    while LAST not in fields:
        end = head.find(b"\n", position)
        if end < 0 and not (end := len(head) if position < len(head) < LONGEST_HEADER else -1) > 0:
            raise DamagedScan(f"{source}: the MetaImage header has no ElementDataFile")
        line = head[position:end].decode("latin-1").strip()
        position = min(end + 1, len(head))
        key, equals, value = line.partition("=")
        if line and not equals:
            raise DamagedScan(f"{source}: expected 'key = value' in the MetaImage header, got {line[:40]!r}")
        if key.strip():
            fields[key.strip().casefold()] = value.strip()
    return fields, position


def _block(fields: dict[str, str], source: str) -> Block:
    lengths = whole_numbers(fields.get("dimsize", ""), "DimSize", source)
    (count,) = whole_numbers(fields.get("ndims", str(len(lengths))), "NDims", source)[:1]
    if count != len(lengths):
        raise DamagedScan(f"{source}: NDims says {count} axes, DimSize {len(lengths)}")
    if count != 3:
        raise RefusedScan(f"{source}: expected three axes, got {count} ({list(lengths)}): save one scan a file")
    (channels,) = whole_numbers(fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels", source)[:1]
    truth = {"true": True, "false": False, "1": True, "0": False}
    plain = {"binarydata": "true", "compresseddata": "false", "byte order": "false"} | fields
    plain["byte order"] = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false"))
    if not require_known(plain, "binarydata", truth, source):
        raise RefusedScan(f"{source}: the pixels are written as text: save them as binary data")
    order = ">" if require_known(plain, "byte order", truth, source) else "<"
    dtype = np.dtype(order + require_known(fields, "elementtype", TYPES, source))
    packed = require_known(plain, "compresseddata", truth, source)
    return Block((channels, *lengths) if channels != 1 else lengths, dtype, inflate if packed else None)


def _spacing(fields: dict[str, str]) -> Spacing | None:
    """Give the steps along z, y and x in mm."""
    steps = real_numbers(fields.get("elementspacing", fields.get("elementsize", "")))
    return (steps[2], steps[1], steps[0]) if steps is not None and len(steps) == 3 else None
