"""Folders of pictures, one B-scan each: PNG, JPEG, BMP and TIFF, in the natural order of their names."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from io import BytesIO
from operator import or_
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped
from PIL import Image
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from embeddings_store.schema import Note
from extract.dicom.header import FileBytes
from extract.errors import RefusedScan, TooLarge, UnsupportedColour
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.foreign import damage, quiet
from extract.readers.natural import missing_numbers, natural_key
from extract.readers.one_file import require_number
from extract.readers.png_chunks import SIGNATURE, check_png
from extract.readers.read_options import Colours
from extract.readers.stack import ADVICE, Stack, one_channel, require_size, to_volume
from extract.readers.tiff import MAGIC as TIFF_MAGIC
from extract.readers.tiff import open_pages
from extract.volume import Volume

MAGIC: Final = {SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF"}
BIGGEST_PICTURE: Final = 1 << 26
"""Pixels: a B-scan has about one in a hundred of that."""

GREY: Final = 0
"""The colour type of PNG, at byte 25; byte 24 is its depth."""

WIDE: Final = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
COLOURS: Final = {"RGB", "RGBA", "RGBX", "LA", "P", "PA", "1", "L"}
PLAIN: Final = {"1": "L", "P": "RGBA", "PA": "RGBA", "RGBX": "RGB"}


class Pictures:
    """Reads one picture, or many as one volume; pictures of all these kinds may be mixed."""

    name = "pictures (PNG, JPEG, BMP, TIFF)"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the first bytes; a name says nothing (some .jpg are PNG inside)."""
        return head.startswith((*MAGIC, *TIFF_MAGIC)) and not (head.startswith(b"BM") and head[6:10] != bytes(4))

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name no further file: which pictures are one volume, the folder or the table says."""
        return ()

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the one volume."""
        _stack(files, request)
        return [Inside()]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the frames that are asked for; the others are only looked at."""
        require_number(number, 1, request)
        return to_volume(_stack(files, request), request)


def _stack(files: Sequence[ScanFile], request: Request) -> Stack:
    ordered = sorted(files, key=lambda file: (natural_key(file.name), file.name))
    missing = missing_numbers([file.base for file in ordered])
    stack = picture_stack(ordered, request)
    return replace(stack, notes=stack.notes | Note.SLICES_MISSING) if missing else stack


def picture_stack(ordered: Sequence[ScanFile], request: Request) -> Stack:
    """Say how the pictures, one B-scan each in this order, are read. Raises: ScanError."""
    source, colours = request.source, request.options.colours
    if len(ordered) == 1 and ordered[0].head.startswith(TIFF_MAGIC):
        return open_pages(ordered[0].data, source, colours)
    wheres = [f"{source}, picture {number} of {len(ordered)}" for number in range(1, len(ordered) + 1)]
    sizes = [picture_size(file.data, where) for file, where in zip(ordered, wheres, strict=True)]
    other = next((number for number, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        raise RefusedScan(
            f"{wheres[other]} by name: expected {sizes[0][0]} x {sizes[0][1]} pixels as in the first, "
            f"got {sizes[other][0]} x {sizes[other][1]}: is it another kind of picture?"
        )
    require_size(sizes[0], source, items=len(ordered))

    def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
        seen = [read_picture(ordered[number].data, wheres[number], colours) for number in numbers.tolist()]
        kinds = sorted({str(frame.dtype) for frame, _ in seen})
        if len(kinds) > 1:
            raise RefusedScan(f"{source}: expected pictures of one depth, got {' and '.join(kinds)}")
        return np.stack([frame for frame, _ in seen]), reduce(or_, (note for _, note in seen))

    return Stack(len(ordered), read)


def picture_size(data: FileBytes, where: str) -> tuple[int, int]:
    """Give rows and columns, without decoding. Raises: as read_picture does."""
    if data[:4] in TIFF_MAGIC:
        pages = open_pages(data, where)
        if pages.count != 1:
            raise RefusedScan(
                f"{where}: expected one page, got a TIFF of {pages.count}: a scan is one file or one folder"
            )
        return pages.size
    with _open(data, where) as picture:
        return picture.height, picture.width


def read_picture(
    data: FileBytes, where: str, colours: Colours = "refuse"
) -> tuple[Shaped[np.ndarray, "rows columns"], Note]:
    """Read one grey picture, 8 or 16 bits deep as it is. Raises: ScanError."""
    if data[:4] in TIFF_MAGIC:
        frames, note = open_pages(data, where, colours).read(np.arange(1))
        return frames[0], note
    with _open(data, where) as picture, damage(where, f"{picture.format} picture"):
        picture.load()
        pixels = np.array(picture if picture.mode in WIDE else picture.convert(PLAIN.get(picture.mode, picture.mode)))
    return (pixels, Note.NONE) if pixels.ndim == 2 else one_channel(pixels, where, colours)


def _open(data: FileBytes, where: str) -> Image.Image:
    kind = next((kind for magic, kind in MAGIC.items() if data[: len(magic)] == magic), None)
    if kind is None:
        raise RefusedScan(f"{where}: expected a PNG, JPEG, BMP or TIFF picture, got another kind of file")
    try:
        with damage(where, f"{kind} picture"), quiet():
            if kind == "PNG":
                check_png(data)
            picture = Image.open(BytesIO(data), formats=[kind])
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise TooLarge(f"{where}: the picture claims far more pixels than any B-scan") from error
    if picture.width * picture.height > BIGGEST_PICTURE:
        raise TooLarge(f"{where}: the picture claims {picture.width} x {picture.height} pixels, no B-scan has so many")
    if getattr(picture, "is_animated", False):
        raise RefusedScan(f"{where}: an animation of {getattr(picture, 'n_frames', 2)} frames: save its frames as PNG")
    if kind == "GIF":
        raise RefusedScan(f"{where}: a GIF picture, which holds 256 colours and no measurements: export PNG or DICOM")
    if kind == "PNG" and data[24] == 16 and data[25] != GREY:
        raise UnsupportedColour(f"{where}: 16 bits in colours, of which 8 would be lost: export 16-bit grey")
    if picture.mode not in WIDE | COLOURS:
        raise UnsupportedColour(f"{where}: expected a grey picture, got the colours {picture.mode}: {ADVICE}")
    return picture
