"""How the samples of a file are laid out, checked before anything is allocated."""

from dataclasses import dataclass, replace

from pydicom import Dataset

from embeddings_store.schema import Note
from extract.dicom.header import FOREIGN_ERRORS, read_uid
from extract.dicom.kind import is_oct
from extract.dicom.palette import PALETTE
from extract.errors import NotAVolume, TooLarge, UndecodablePixels, UnsupportedColour

MAX_VOXELS = 1 << 30
"""Four times the largest scan known (512 frames of 992 x 512): a header that claims more is damaged or hostile."""


GREY_IN_COLOUR = {"RGB", "YBR_FULL"}
"""Colour spaces of three samples a pixel that may hold nothing but grey."""

MALFORMED = -1
UNTOLD = -2  # frames that no header can claim


@dataclass(frozen=True)
class SampleLayout:
    """What the header says of the samples. frames: as declared, which may be fewer than stored.

    shift: bits below the samples, if words are that wide. samples: 3 where grey is stored as RGB or YBR_FULL, frame by
    frame in planes if planar.
    """

    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    shift: int = 0
    samples: int = 1
    planar: bool = False
    notes: Note = Note.NONE

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return self.samples * self.rows * self.columns * self.bits_allocated // 8


def read_layout(elements: Dataset, source: str, plain_bytes: int | None, *, fewest_frames: int = 2) -> SampleLayout:
    """Read and check the image pixel module. plain_bytes: of uncompressed pixel data, None of compressed.

    fewest_frames: of a file that is no volume alone, 1.

    Raises: UnsupportedColour, NotAVolume, UndecodablePixels (missing or impossible values), TooLarge.
    """
    samples = _integer(elements, "SamplesPerPixel", 1)
    photometric = _photometric(elements)
    colour = (samples, photometric) == (1, PALETTE) or (
        plain_bytes is not None and samples == 3 and photometric in GREY_IN_COLOUR
    )
    if not colour and (samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}):
        what = f"{samples} of {photometric[:16]}{'' if plain_bytes is not None or samples == 1 else ', compressed'}"
        raise UnsupportedColour(
            f"{source}: expected one grey sample a pixel, got {what}: leave pictures in colour out, and export a grey "
            "scan as MONOCHROME2"
        )
    bits_allocated = _integer(elements, "BitsAllocated", 0)
    bits_stored = _integer(elements, "BitsStored", bits_allocated)
    shift = _integer(elements, "HighBit", bits_stored - 1) + 1 - bits_stored
    misplaced = shift and not 0 < shift <= bits_allocated - bits_stored
    layout = SampleLayout(
        frames=_integer(elements, "NumberOfFrames", UNTOLD),
        rows=_integer(elements, "Rows", 0),
        columns=_integer(elements, "Columns", 0),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        signed=_integer(elements, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        shift=0 if misplaced else shift,
        samples=samples,
        planar=_integer(elements, "PlanarConfiguration", 0) == 1,
        notes=Note.GREY_AS_RGB if colour else Note.NONE,
    )
    if layout.frames == UNTOLD:
        layout = _count_frames(layout, plain_bytes, source)
    if layout.frames < fewest_frames:
        raise NotAVolume(f"{source}: expected a volume, got {layout.frames} frame: {_what_one_frame_is(elements)}")
    if misplaced and plain_bytes is not None:  # a compressed stream says itself where its samples end
        raise UndecodablePixels(f"{source}: HighBit {shift + bits_stored - 1} contradicts {bits_stored} bits stored")
    _check_layout(layout, source)
    return layout


def _count_frames(layout: SampleLayout, plain_bytes: int | None, source: str) -> SampleLayout:
    """Take the number of frames from the bytes where the header has none; one frame where they say nothing."""
    if plain_bytes is None:
        raise NotAVolume(f"{source}: NumberOfFrames is missing, and compressed frames cannot be counted without it")
    count, rest = divmod(plain_bytes, layout.frame_bytes) if layout.frame_bytes > 0 else (1, 0)
    if count < 2:
        return replace(layout, frames=1)
    if rest > plain_bytes % 2 + count * layout.frame_bytes % 2:
        raise UndecodablePixels(f"{source}: NumberOfFrames is missing, and {plain_bytes:,} bytes are no whole frames")
    return replace(layout, frames=count, notes=layout.notes | Note.FRAMES_COUNTED)


def require_volume(layout: SampleLayout, frames: int, source: str) -> None:
    """Refuse parts that together are one frame, or more voxels than any scan has. Raises: NotAVolume, TooLarge."""
    if frames < 2:
        raise NotAVolume(f"{source}: expected a volume, got {frames} frame in all: its rows would be taken for depth")
    check_size(layout, frames, source)


def check_size(layout: SampleLayout, frames: int, source: str) -> None:
    """Refuse more voxels than any scan has, with TooLarge."""
    if frames * layout.rows * layout.columns > MAX_VOXELS:
        claim = f"{frames} x {layout.rows} x {layout.columns}"
        raise TooLarge(f"{source}: the header claims {claim} voxels, more than the {MAX_VOXELS:,} of any scan")


def _check_layout(layout: SampleLayout, source: str) -> None:
    if layout.rows < 1 or layout.columns < 1 or layout.bits_allocated not in {8, 16}:
        shape = f"{layout.rows} x {layout.columns} with {layout.bits_allocated} bits"
        raise UndecodablePixels(f"{source}: expected rows, columns and 8 or 16 bits allocated, got {shape}")
    if not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise UndecodablePixels(f"{source}: {layout.bits_stored} of {layout.bits_allocated} bits cannot be stored")
    check_size(layout, layout.frames, source)


def _what_one_frame_is(elements: Dataset) -> str:
    if is_oct(elements) and read_uid(elements, "SeriesInstanceUID"):
        return (
            "it is one frame of a series, whose other frames are files of their own; export the scan as one "
            "multi-frame file (Ophthalmic Tomography)"
        )
    return "its rows would be taken for depth; leave single images out"


def _photometric(elements: Dataset) -> str:
    """Read the colour space; missing and empty give grey, malformed gives what no check lets through."""
    try:
        return str(elements.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper()
    except FOREIGN_ERRORS:
        return "(malformed)"


def _integer(elements: Dataset, keyword: str, default: int) -> int:
    """Read a whole number; missing and empty give the default, malformed gives what no check lets through."""
    try:
        value = elements.get(keyword)
        if value is None or value == "":
            return default
        return int(value) if int(value) == float(value) else MALFORMED
    except FOREIGN_ERRORS:
        return MALFORMED
