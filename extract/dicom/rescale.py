"""Slope and intercept of a file: of all frames, or frame by frame in the functional groups."""

import math

import numpy as np
from jaxtyping import Float64
from pydicom import Dataset

from extract.dicom.geometry import read_items, read_numbers, read_text
from extract.errors import UndecodablePixels

TRANSFORMATION = "PixelValueTransformationSequence"


def read_rescale(elements: Dataset, frames: int, source: str) -> Float64[np.ndarray, "frames 2"]:
    """Give slope and intercept of every frame: its own, else the shared ones, else those of the top level, else (1, 0).

    Raises: UndecodablePixels for what is not finite, and where only some frames have their own.
    Source: DICOM PS3.3, C.7.6.16.2.9.
    """
    shared = [
        t for group in read_items(elements, "SharedFunctionalGroupsSequence") for t in read_items(group, TRANSFORMATION)
    ]
    groups = read_items(elements, "PerFrameFunctionalGroupsSequence")
    own = [item for group in groups for item in read_items(group, TRANSFORMATION)[:1]]
    if own and not len(own) == len(groups) == frames:
        raise UndecodablePixels(f"{source}: expected a rescale for each of {frames} frames, got {len(own)}")
    places = own or [(shared or [elements])[0]]
    table = np.array([_pair(place) for place in places], dtype=np.float64)
    if not np.isfinite(table).all():
        slope, intercept = table[~np.isfinite(table).all(axis=1)][0]
        raise UndecodablePixels(f"{source}: expected a finite rescale, got slope {slope}, intercept {intercept}")
    return table if own else np.repeat(table, frames, axis=0)


def _pair(place: Dataset) -> tuple[float, float]:
    return _one(place, "RescaleSlope", 1.0), _one(place, "RescaleIntercept", 0.0)


def _one(place: Dataset, keyword: str, default: float) -> float:
    """Read one number; missing and empty give the default, malformed gives NaN, which is refused."""
    numbers = read_numbers(place, keyword)
    if numbers is None:
        return math.nan if read_text(place, keyword) else default
    return numbers[0] if len(numbers) == 1 else math.nan
