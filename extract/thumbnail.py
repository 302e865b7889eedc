"""A small grey picture of the encoder's input: 8 slices of 32 x 32 cells, each the mean of the voxels in it."""

import numpy as np
from jaxtyping import Float32, UInt8

from embeddings_store.schema import THUMBNAIL_SHAPE

BRIGHTEST = 255


def make_thumbnail(image: Float32[np.ndarray, "D H W"]) -> UInt8[np.ndarray, "8 32 32"]:
    """Average an encoder's input over cells of equal area, and stretch it: the darkest cell is 0, the brightest 255.

    So it is the same before and after a z-score, and for files of 8 and 16 bits. An axis with fewer voxels than cells
    repeats them; cells of an axis that does not divide differ by one voxel. A constant input gives zeros.
    """
    cells = image
    for axis, count in enumerate(THUMBNAIL_SHAPE):
        cells = _average(cells, axis, count)
    low, high = cells.min(), cells.max()
    if not high > low:
        return np.zeros(THUMBNAIL_SHAPE, np.uint8)
    return np.asarray(np.rint((cells - low) * (np.float32(BRIGHTEST) / (high - low))), dtype=np.uint8)


def _average(values: Float32[np.ndarray, "a b c"], axis: int, count: int) -> Float32[np.ndarray, "d e f"]:
    # Slice by slice, which is ten times as fast as numpy.add.reduceat along the first axis.
    first = np.arange(count) * values.shape[axis] // count
    end = np.maximum(np.append(first[1:], values.shape[axis]), first + 1)
    parts = np.moveaxis(values, axis, 0)
    cells = np.empty((count, *parts.shape[1:]), values.dtype)
    for cell, a, b in zip(cells, first, end, strict=True):
        parts[a:b].mean(axis=0, out=cell)
    return np.moveaxis(cells, 0, axis)
