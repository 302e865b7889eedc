"""Topcon .fda and .fds: named parts one after another, one volume a file.

Source: the structure as oct-converter 0.7 reads it (after uocte); checked against it. No field of the patient is read.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped
from PIL import Image
from PIL.Image import DecompressionBombError

from embeddings_store.schema import Eye, Note
from extract.dicom.codestream import JPEG_2000, DamagedStreamError, check_jpeg_2000, read_head
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Request, ScanFile
from extract.readers.foreign import damage, quiet
from extract.readers.one_file import OneFile
from extract.readers.stack import Spacing, Stack, require_size, stack_of

MAGIC: Final = b"FOCT"
HEADER_BYTES: Final = 15
RAW: Final = (b"@IMG_SCAN_03", b"@IMG_MOT_COMP_03")
COMPRESSED: Final = b"@IMG_JPEG"
RAW_HEAD: Final = struct.Struct("<BIIIIBI")
JPEG_HEAD: Final = struct.Struct("<B6I")
SIZES: Final = {b"@PARAM_SCAN_04": 12, b"@PARAM_SCAN_02": 21}
"""Where width, height and axial step, three doubles, begin in a part."""

EYES: Final = {0: Eye.RIGHT, 1: Eye.LEFT}


class Topcon(OneFile):
    """Reads .fda and .fds."""

    name = "Topcon .fda, .fds"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the mark."""
        return head.startswith(MAGIC)

    def stack(self, file: ScanFile, request: Request) -> Stack:
        """Find the part that holds the B-scans, the compressed pictures first: they are what the device shows."""
        source, parts = request.source, _parts(file.data, request.source)
        if COMPRESSED in parts:
            stack, columns = _compressed(parts[COMPRESSED], source)
        elif found := [name for name in RAW if name in parts]:
            stack, columns = _raw(parts[found[0]], source)
        else:
            raise RefusedScan(f"{source}: the Topcon file holds no B-scans of a kind that is known")
        return replace(stack, eye=_eye(parts), spacing_mm=_spacing(parts, stack.count, columns))


def _eye(parts: Mapping[bytes, memoryview]) -> Eye:
    part = parts.get(b"@CAPTURE_INFO_02", parts.get(b"@CAPTURE_INFO", b""))
    return EYES.get(part[0], Eye.UNKNOWN) if len(part) else Eye.UNKNOWN


def _spacing(parts: Mapping[bytes, memoryview], frames: int, columns: int) -> Spacing | None:
    """Give the steps in mm, from the width and height of the scan and the axial step in um."""
    for name, at in SIZES.items():
        if name in parts and len(parts[name]) >= at + 24:
            width, height, axial = struct.unpack_from("<ddd", parts[name], at)
            steps = (height / frames, axial / 1000, width / columns)
            return steps if all(math.isfinite(step) and step > 0 for step in steps) else None
    return None


def _raw(part: memoryview, source: str) -> tuple[Stack, int]:
    with damage(source, "Topcon file"):
        _, columns, rows, bits, frames, _, _ = RAW_HEAD.unpack(part[: RAW_HEAD.size])
    require_size((frames, rows, columns), source)
    size = 2 * frames * rows * columns
    if bits != 16 or not 0 <= len(part) - RAW_HEAD.size - size < 2 * rows * columns:
        raise DamagedScan(
            f"{source}: {frames} x {rows} x {columns} voxels of {bits} bits: expected 16 bits and {size:,} bytes, the "
            f"part has {len(part) - RAW_HEAD.size:,}"
        )
    array = np.frombuffer(part, "<u2", frames * rows * columns, RAW_HEAD.size).reshape(frames, rows, columns)
    return stack_of(array), columns


def _compressed(part: memoryview, source: str) -> tuple[Stack, int]:
    with damage(source, "Topcon file"):
        *_, columns, rows, frames, _ = JPEG_HEAD.unpack(part[: JPEG_HEAD.size])
    require_size((frames, rows, columns), source)
    streams, at = list[memoryview](), JPEG_HEAD.size
    for number in range(frames):
        length = int.from_bytes(part[at : at + 4], "little")
        if not 0 < length <= len(part) - at - 4:
            raise DamagedScan(f"{source}: the Topcon file breaks off in B-scan {number + 1} of {frames}")
        streams.append(part[at + 4 : at + 4 + length])
        at += 4 + length

    def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
        size = (rows, columns)
        frames = [
            _decode(bytes(streams[number]), size, f"{source}, B-scan {number + 1}") for number in numbers.tolist()
        ]
        return np.stack(frames), Note.NONE

    return Stack(frames, read), columns


def _decode(stream: bytes, size: tuple[int, int], source: str) -> Shaped[np.ndarray, "rows columns"]:
    """Decode a JPEG or a JPEG 2000, whose own head must tell the size that the file tells."""
    code = max(stream.find(JPEG_2000), 0)
    with damage(source, "B-scan", DamagedStreamError):
        head = read_head(stream[code:])
        if head is None or (head.rows, head.columns) != size:
            raise DamagedStreamError(f"expected a JPEG or JPEG 2000 of {size[0]} x {size[1]}")
        if stream[code:].startswith(JPEG_2000):
            check_jpeg_2000(stream[code:])
    formats = ["JPEG", "JPEG2000"]
    with (
        damage(source, "B-scan", DecompressionBombError),
        quiet(),
        Image.open(BytesIO(stream), formats=formats) as picture,
    ):
        picture.load()
        pixels: np.ndarray = np.array(picture)
    if pixels.shape != size:
        raise RefusedScan(f"{source}: expected a grey B-scan of {size[0]} x {size[1]}, got {list(pixels.shape)}")
    return pixels


def _parts(data: FileBytes, source: str) -> dict[bytes, memoryview]:
    """Find the named parts; of several with one name, the first. Raises: DamagedScan where one breaks off."""
    whole, at, parts = memoryview(data), HEADER_BYTES, dict[bytes, memoryview]()
    while at < len(whole) and (length := whole[at]):
        name, start = bytes(whole[at + 1 : at + 1 + length]), at + 5 + length
        size = int.from_bytes(whole[start - 4 : start], "little")
        if start > len(whole) or size > len(whole) - start or not name.startswith(b"@"):
            raise DamagedScan(f"{source}: the Topcon file breaks off after {len(whole):,} bytes")
        parts.setdefault(name, whole[start : start + size])
        at = start + size
    if at >= len(whole):
        raise DamagedScan(f"{source}: the Topcon file ends without its end mark, after {len(whole):,} bytes")
    return parts
