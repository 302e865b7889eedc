"""From an array, or from frames that are read one by one, to a Volume: axes, types, sizes and what is to be noted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from embeddings_store.schema import Eye, Note, SpacingSource
from extract.dicom.layout import MAX_VOXELS
from extract.errors import RefusedScan, TooLarge, UnsupportedColour
from extract.readers.contract import Request
from extract.readers.read_options import Colours, ReadOptions
from extract.volume import Volume, Voxels

Spacing = tuple[float, float, float]
NO_RESCALE: Final = (1.0, 0.0)
EXACT_FLOAT32: Final = 1 << 24
TURNED: Final = 2  # times as many frames as columns: the axes may well be in another order
COLOURS: Final = (3, 4)
ADVICE: Final = "export grey pictures without annotations, or have their luma taken with --colours luma"


@dataclass(frozen=True)
class Stack:
    """A scan whose frames can be read. spacing, eye: as the file says.

    read: gives the frames of these numbers, ascending, and what was noticed on the way.
    """

    count: int
    read: Callable[[Int[np.ndarray, "n"]], tuple[Shaped[np.ndarray, "n rows columns"], Note]]
    spacing_mm: Spacing | None = None
    eye: Eye = Eye.UNKNOWN
    notes: Note = Note.NONE
    rescale: tuple[float, float] = NO_RESCALE


def stack_of(
    array: Shaped[np.ndarray, "frames rows columns"],
    *,
    spacing_mm: Spacing | None = None,
    eye: Eye = Eye.UNKNOWN,
    notes: Note = Note.NONE,
    rescale: tuple[float, float] = NO_RESCALE,
) -> Stack:
    """Make a Stack of an array that is there."""

    def read(numbers: Int[np.ndarray, "n"]) -> tuple[Shaped[np.ndarray, "n rows columns"], Note]:
        return (array if len(numbers) == len(array) else array[numbers]), Note.NONE

    return Stack(len(array), read, spacing_mm, eye, notes, rescale)


def to_volume(stack: Stack, request: Request) -> Volume:
    """Read the frames that were asked for. Raises: ScanError."""
    numbers = np.arange(stack.count) if request.frames is None else np.asarray(request.frames(stack.count))
    stored, noticed = stack.read(numbers)
    frames, notes = to_voxels(stored, request.source), stack.notes | noticed
    if (frames == frames[0, 0, 0]).all():
        notes |= Note.CONSTANT
    if stack.spacing_mm is None:
        notes |= Note.NO_SPACING
    ref = request.ref
    if ref is not None and Eye.UNKNOWN not in {ref.eye, stack.eye} and ref.eye != stack.eye:
        notes |= Note.EYE_DISAGREES
    return Volume(
        voxels=frames,
        frame_numbers=numbers,
        frame_count=stack.count,
        spacing_mm=stack.spacing_mm,
        rescale=stack.rescale,
        eye=stack.eye,
        protocol=ref.protocol if ref else "",
        device=ref.device if ref else "",
        source=request.source,
        notes=notes,
        spacing_source=SpacingSource.TOP_LEVEL if stack.spacing_mm else SpacingSource.NONE,
    )


def require_size(shape: tuple[int, ...], source: str, *, items: int = 1) -> None:
    """Refuse, before anything is allocated, what has no voxels or more than any scan. Raises: RefusedScan, TooLarge."""
    if not shape or min(shape) < 1:
        raise RefusedScan(f"{source}: expected an array with voxels, got shape {list(shape)}: it holds no B-scans")
    voxels = items
    for length in shape:
        voxels *= int(length)
    if voxels > MAX_VOXELS:
        raise TooLarge(f"{source}: the header claims {voxels:,} voxels, more than the {MAX_VOXELS:,} of any scan")


def arrange(
    array: Shaped[np.ndarray, "..."], options: ReadOptions, source: str, *, ask: bool = False
) -> tuple[Shaped[np.ndarray, "frames rows columns"], Note]:
    """Give the array as frames, rows, columns; a fourth axis of equal colours becomes grey.

    ask: refuse an array that looks turned where nobody named its axes; else that is noted. Raises: RefusedScan.
    """
    require_size(array.shape, source)
    note = Note.NONE
    if array.ndim == 4 and array.shape[-1] in {1, *COLOURS}:
        array, note = one_channel(array, source, options.colours)
    if array.ndim != 3:
        raise RefusedScan(
            f"{source}: expected an array of three axes (frames, rows, columns), got {array.ndim} of shape "
            f"{list(array.shape)}: store one scan a file"
        )
    frames, rows, columns = (array.shape[axis] for axis in options.order)
    if options.axes is None and frames >= TURNED * columns:
        if ask:
            raise RefusedScan(
                f"{source}: shape {list(array.shape)} would be {frames} frames of {rows} x {columns}, and the file "
                "does not say which axis is which: name them (--axes rows,columns,frames), and look at the preview"
            )
        note |= Note.AXES_DOUBTFUL
    return array.transpose(options.order), note


def arrange_spacing(spacing: Spacing | None, options: ReadOptions) -> Spacing | None:
    """Give the distances between frames, rows and columns from those along the stored axes."""
    if spacing is None or not all(np.isfinite(step) and step > 0 for step in spacing):
        return None
    frames, rows, columns = (float(spacing[axis]) for axis in options.order)
    return frames, rows, columns


def one_channel(
    array: Shaped[np.ndarray, "..."], source: str, colours: Colours = "refuse"
) -> tuple[Shaped[np.ndarray, "..."], Note]:
    """Drop a last axis of equal colours, and of opacity where all is opaque; else the luma (ITU-R BT.601), if wanted.

    Raises: UnsupportedColour.
    """
    first, count = array[..., 0], array.shape[-1]
    if count in {2, 4} and not (array[..., -1] == array[..., -1].max()).all():
        raise UnsupportedColour(f"{source}: expected grey, got pictures with transparent parts: {ADVICE}")
    if count < 3:
        return first, Note.GREY_AS_RGB if count > 1 else Note.NONE
    if all(np.array_equal(first, array[..., channel]) for channel in (1, 2)):
        return first, Note.GREY_AS_RGB
    if colours == "refuse" or array.dtype != np.uint8:
        raise UnsupportedColour(f"{source}: expected grey, got pictures in colour: {ADVICE}")
    return _luma(array), Note.COLOUR_AS_GREY


def _luma(array: UInt8[np.ndarray, "... channels"]) -> UInt8[np.ndarray, "..."]:
    """Weigh red, green and blue in 16 bits, as Pillow does, plane by plane."""
    weights = zip((19595, 38470, 7471), np.moveaxis(array, -1, 0)[:3], strict=True)
    total = sum((channel.astype(np.uint32) * np.uint32(weight) for weight, channel in weights), np.uint32(1 << 15))
    return np.asarray(total >> np.uint32(16), dtype=np.uint8)


def to_voxels(frames: Shaped[np.ndarray, "n rows columns"], source: str) -> Voxels:
    """Give the same numbers in a type of Volume, in this machine's byte order. Raises: RefusedScan where none does."""
    kind = frames.dtype.kind
    if kind == "b":
        return frames.view(np.uint8)
    if kind in "ui":
        return _whole_numbers(frames, source)
    if kind != "f":
        raise RefusedScan(f"{source}: expected whole or real numbers, got {frames.dtype}")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(frames, dtype=np.float32)
    if not np.isfinite(single).all():
        raise RefusedScan(f"{source}: expected finite numbers, got NaN, infinity or numbers beyond float32")
    return single


def _whole_numbers(frames: Shaped[np.ndarray, "n rows columns"], source: str) -> Voxels:
    native = frames.dtype.newbyteorder("=")
    if native in {np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16)}:
        return np.ascontiguousarray(frames, dtype=native)
    least, most = int(frames.min()), int(frames.max())
    for kind in (np.uint8, np.uint16, np.int16) if frames.dtype.itemsize > 1 else (np.int16,):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return np.ascontiguousarray(frames, dtype=kind)
    if max(-least, most) > EXACT_FLOAT32:
        raise RefusedScan(f"{source}: expected numbers of 16 bits, got {least} to {most}, which float32 cannot hold")
    return np.ascontiguousarray(frames, dtype=np.float32)
