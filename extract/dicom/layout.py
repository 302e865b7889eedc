"""How the samples of a file are laid out, checked before anything is allocated."""

from dataclasses import dataclass

from pydicom import Dataset

from extract.dicom.header import FOREIGN_ERRORS
from extract.errors import NotAVolume, TooLarge, UndecodablePixels, UnsupportedColour

MAX_VOXELS = 1 << 30
"""Four times the largest scan known (512 frames of 992 x 512): a header that claims more is damaged or hostile."""


@dataclass(frozen=True)
class Layout:
    """What the header says of the samples. frames: as declared, which may be fewer than stored."""

    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return self.rows * self.columns * self.bits_allocated // 8


def read_layout(elements: Dataset, source: str) -> Layout:
    """Read and check the image pixel module.

    Raises: UnsupportedColour, NotAVolume, UndecodablePixels (missing or impossible values), TooLarge.
    """
    samples = _integer(elements, "SamplesPerPixel", 1)
    photometric = _photometric(elements)
    if samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise UnsupportedColour(f"{source}: expected one grey sample a pixel, got {samples} of {photometric[:16]}")
    bits_allocated = _integer(elements, "BitsAllocated", 0)
    layout = Layout(
        frames=_integer(elements, "NumberOfFrames", 1),
        rows=_integer(elements, "Rows", 0),
        columns=_integer(elements, "Columns", 0),
        bits_allocated=bits_allocated,
        bits_stored=_integer(elements, "BitsStored", bits_allocated),
        signed=_integer(elements, "PixelRepresentation", 0) == 1,
        photometric=photometric,
    )
    _check_layout(layout, source)
    return layout


def check_size(layout: Layout, frames: int, source: str) -> None:
    """Refuse more voxels than any scan has, with TooLarge."""
    if frames * layout.rows * layout.columns > MAX_VOXELS:
        claim = f"{frames} x {layout.rows} x {layout.columns}"
        raise TooLarge(f"{source}: the header claims {claim} voxels, more than the {MAX_VOXELS:,} of any scan")


def _check_layout(layout: Layout, source: str) -> None:
    if layout.rows < 1 or layout.columns < 1 or layout.bits_allocated not in {8, 16}:
        shape = f"{layout.rows} x {layout.columns} with {layout.bits_allocated} bits"
        raise UndecodablePixels(f"{source}: expected rows, columns and 8 or 16 bits allocated, got {shape}")
    if not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise UndecodablePixels(f"{source}: {layout.bits_stored} of {layout.bits_allocated} bits cannot be stored")
    if layout.frames < 2:
        raise NotAVolume(f"{source}: expected a volume, got {layout.frames} frame: rows would be taken for depth")
    check_size(layout, layout.frames, source)


def _photometric(elements: Dataset) -> str:
    """Read the colour space; missing and empty give grey, malformed gives what no check lets through."""
    try:
        return str(elements.get("PhotometricInterpretation") or "MONOCHROME2").strip()
    except FOREIGN_ERRORS:
        return "(malformed)"


def _integer(elements: Dataset, keyword: str, default: int) -> int:
    """Read a whole number; missing and empty give the default, malformed gives -1, which no check lets through."""
    try:
        value = elements.get(keyword)
        return default if value is None or value == "" else int(value)
    except FOREIGN_ERRORS:
        return -1
