"""What the first bytes of a picture tell without its pixels: enough to see that it is of another kind than the rest."""

from io import BytesIO
from typing import Final

from PIL import Image
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from extract.readers.foreign import FOREIGN, quiet
from extract.readers.pictures import WIDE
from extract.readers.png_chunks import SIGNATURE

HEAD_BYTES: Final = 1 << 12
JPEG_HEAD_BYTES: Final = 1 << 16
"""A thumbnail may stand before the size."""

Kind = tuple[int, int, bool, bool]


def head_bytes(name: str) -> int:
    """Say how much of a picture of this name tells its kind."""
    return JPEG_HEAD_BYTES if name.lower().endswith((".jpg", ".jpeg")) else HEAD_BYTES


def kind_of(head: bytes) -> Kind | None:
    """Give rows, columns, whether it is deeper than 8 bits, and whether it has colours; None: unknown."""
    if head.startswith(SIGNATURE) and len(head) > 25:  # IHDR comes first; source: PNG specification, 5.6
        columns, rows = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
        return rows, columns, head[24] == 16, head[25] not in {0, 4}
    try:
        with quiet(), Image.open(BytesIO(head), formats=["PNG", "JPEG", "BMP", "TIFF"]) as picture:
            return picture.height, picture.width, picture.mode in WIDE, picture.mode not in {*WIDE, "L", "1"}
    except (*FOREIGN, DecompressionBombError, DecompressionBombWarning):
        return None
