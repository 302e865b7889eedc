"""One frame a file: the order of the files of a series, by position, else by number, and whether some are missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset

from embeddings_store.schema import Note
from extract.dicom.geometry import RASTER_TOLERANCE, read_numbers
from extract.dicom.header import read_uid
from extract.errors import RefusedScan

WIDE_STEP: Final = 1.5  # times the usual step between two frames: one is missing


@dataclass(frozen=True, slots=True)
class Series:
    """The files of a series in the order of their frames. step_mm: between two frames, None where only numbers tell."""

    order: list[int]
    step_mm: float | None
    notes: Note


def order_series(files: Sequence[Dataset], source: str) -> Series:
    """Sort files of one frame each. Raises: RefusedScan where they are of several series, or of no known order."""
    if len({read_uid(elements, "SeriesInstanceUID") for elements in files}) > 1:
        raise RefusedScan(f"{source}: expected the files of one series, got several: one series is one folder")
    along = _along_a_line(files)
    if along is not None and len(np.unique(along)) == len(files):
        steps = np.diff(np.sort(along))
        gap = bool(steps.max() > WIDE_STEP * np.median(steps))
        return Series(np.argsort(along).tolist(), float(np.median(steps)), Note.SLICES_MISSING if gap else Note.NONE)
    numbers = [read_numbers(elements, "InstanceNumber") for elements in files]
    found = [int(number[0]) for number in numbers if number is not None and np.isfinite(number[0])]
    if len(set(found)) < len(files):
        raise RefusedScan(
            f"{source}: {len(files)} files of one frame each, and neither ImagePositionPatient nor InstanceNumber "
            "tells their order: export the scan as one multi-frame file"
        )
    gap = max(found) - min(found) >= len(files)
    return Series(np.argsort(found).tolist(), None, Note.SLICES_MISSING if gap else Note.NONE)


def _along_a_line(files: Sequence[Dataset]) -> Float64[np.ndarray, "files"] | None:
    """Give each frame's place along the line on which a raster lies, rising with the coordinate that changes most."""
    found = [read_numbers(elements, "ImagePositionPatient") for elements in files]
    positions = [position for position in found if position is not None and len(position) == 3]
    if len(positions) < len(files) or not np.isfinite(positions).all():
        return None
    offsets = np.array(positions) - positions[0]
    line = offsets[np.argmax(np.linalg.norm(offsets, axis=1))]
    length = float(np.linalg.norm(line))
    if length == 0.0:
        return None
    direction = line / length * np.sign(line[np.argmax(np.abs(line))])
    along: Float64[np.ndarray, files] = offsets @ direction
    aside = np.linalg.norm(offsets - along[:, None] * direction, axis=1)
    return None if float(aside.max()) > RASTER_TOLERANCE * length else along
