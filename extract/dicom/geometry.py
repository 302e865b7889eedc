"""Where a volume lies: spacing, order of frames and eye, wherever the file keeps them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset
from pydicom.multival import MultiValue

from embeddings_store.schema import Eye, SpacingSource
from extract.dicom.header import FOREIGN_ERRORS

RASTER_TOLERANCE = 0.1  # how far positions may leave a straight line, in parts of its length, to be called a raster
MEASURES = "PixelMeasuresSequence"
GROUPS = {
    "SharedFunctionalGroupsSequence": SpacingSource.SHARED,
    "PerFrameFunctionalGroupsSequence": SpacingSource.PER_FRAME,
}
"""Where functional groups lie, in the order in which they are believed."""


def read_spacing(elements: Dataset) -> tuple[tuple[float, float, float] | None, SpacingSource]:
    """Find the distance between frames, axial and lateral, in mm; None where no pixel spacing is told.

    Also gives the part of the file that told the pixel spacing; the distance between frames may come from another one.

    Each is taken from the shared functional groups, else the per-frame groups (the first frame that tells), else the
    top level. SpacingBetweenSlices goes before SliceThickness, which is a beam's width and not a distance
    (DICOM PS3.3, C.7.6.2.1 and C.7.6.16.2.1). An unknown distance between frames is NaN.
    """
    places = list(_measure_places(elements))
    told = ((s, source) for source, place in places if (s := _positive(place, "PixelSpacing", 2)))
    pixel, source = next(told, (None, SpacingSource.NONE))
    if pixel is None:
        return None, source
    between = next((s for _, place in places if (s := _positive(place, "SpacingBetweenSlices", 1))), None)
    thickness = next((s for _, place in places if (s := _positive(place, "SliceThickness", 1))), None)
    frame = (between or thickness or [math.nan])[0]
    return (frame, pixel[0], pixel[1]), source


def read_eye(elements: Dataset) -> Eye:
    """Tell the eye from ImageLaterality, else FrameLaterality, else Laterality; anything but L and R is unknown."""
    return next((Eye(value) for value in _lateralities(elements) if value in {"L", "R"}), Eye.UNKNOWN)


def _lateralities(elements: Dataset) -> Iterator[str]:
    yield read_text(elements, "ImageLaterality")
    for item in _group_items(elements, "FrameAnatomySequence"):
        yield read_text(item, "FrameLaterality")
    yield read_text(elements, "Laterality")


def frames_in_order(files: Sequence[Dataset]) -> bool:
    """Tell whether the positions of a raster rise with the frame number; True where they say nothing.

    files: one, or the parts of a volume in their order.

    Radial and circular scans have no such order: their positions do not lie on a line.
    """
    positions = read_positions(files)
    if positions is None:
        return True
    offsets = positions - positions[0]
    line = offsets[np.argmax(np.linalg.norm(offsets, axis=1))]
    length = float(np.linalg.norm(line))
    if length == 0.0:
        return True
    direction = line / length
    along = offsets @ direction
    aside = np.linalg.norm(offsets - along[:, None] * direction, axis=1)
    if float(aside.max()) > RASTER_TOLERANCE * length:
        return True
    rising = positions[:, np.argmax(np.abs(direction))]
    return bool((np.diff(rising) > 0).all())


def read_positions(files: Sequence[Dataset]) -> Float64[np.ndarray, "frames 3"] | None:
    """Give ImagePositionPatient of every frame; None unless all frames have one."""
    frames = [frame for elements in files for frame in read_items(elements, "PerFrameFunctionalGroupsSequence")]
    found = [
        read_numbers(item, "ImagePositionPatient")
        for frame in frames
        for item in read_items(frame, "PlanePositionSequence")
    ]
    positions = [position for position in found if position is not None and len(position) == 3]
    if len(positions) < 2 or len(positions) != len(frames):
        return None
    return np.array(positions, dtype=np.float64)


def _measure_places(elements: Dataset) -> Iterator[tuple[SpacingSource, Dataset]]:
    for groups, source in GROUPS.items():
        yield from ((source, item) for group in read_items(elements, groups) for item in read_items(group, MEASURES))
    yield SpacingSource.TOP_LEVEL, elements


def _group_items(elements: Dataset, keyword: str) -> Iterator[Dataset]:
    """Yield the items of a functional group: the shared ones first, then frame by frame."""
    for groups in GROUPS:
        for group in read_items(elements, groups):
            yield from read_items(group, keyword)


def read_items(elements: Dataset, keyword: str) -> list[Dataset]:
    """Give the items of a sequence; missing and malformed are none."""
    try:
        return list(elements.get(keyword) or [])
    except FOREIGN_ERRORS:
        return []


def _positive(elements: Dataset, keyword: str, count: int) -> list[float] | None:
    numbers = read_numbers(elements, keyword)
    usable = numbers is not None and len(numbers) == count and all(math.isfinite(n) and n > 0 for n in numbers)
    return numbers if usable else None


def read_numbers(elements: Dataset, keyword: str) -> list[float] | None:
    """Read a decimal string of one or more values; missing, empty and malformed are all None."""
    try:
        value = elements.get(keyword)
        if value is None or value == "":
            return None
        return [float(value)] if isinstance(value, int | float | str) else [float(v) for v in value]
    except FOREIGN_ERRORS:
        return None


def read_text(elements: Dataset, keyword: str) -> str:
    """Read a text in capitals, several values with a backslash between them; missing and malformed are ""."""
    try:
        value = elements.get(keyword) or ""
        return "\\".join(map(str, value)).upper() if isinstance(value, MultiValue) else str(value).strip().upper()
    except FOREIGN_ERRORS:
        return ""
