"""How bright a scan is in the units of its file: what a preset's normalisation takes away, kept beside the vectors."""

import numpy as np
from jaxtyping import Float32, Int

from embeddings_store.grid import Grid
from embeddings_store.schema import Intensity
from extract.resize import Blend, origin_of, resize_slices
from extract.volume import Voxels

EVERY = 4  # rows and columns of the resized volume; 590,000 voxels of the full size say what 9.4 million would
PERCENTILES = (1, 50, 99)


class BrightnessSample:
    """Every fourth row and column of resized slices, collected as they come."""

    def __init__(self, image_size: Grid) -> None:
        depth, height, width = image_size
        self._values = np.empty((depth, -(-height // EVERY), -(-width // EVERY)), np.float32)
        self._filled = 0

    def add(self, planes: Float32[np.ndarray, "k H W"], origin: np.float32) -> None:
        """Take a sample of the next slices, which are relative to ``origin``, in stored units."""
        part = self._values[self._filled : self._filled + len(planes)]
        np.add(planes[:, ::EVERY, ::EVERY], origin, out=part)
        self._filled += len(planes)

    def measure(self) -> Intensity:
        """Give mean, standard deviation and percentiles, as numpy.percentile does by default; at the end, and once."""
        values = self._values.reshape(-1)
        mean, sd = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        places = np.array(PERCENTILES) / 100 * (len(values) - 1)
        ranks = np.unique([np.floor(places), np.ceil(places)]).astype(np.int64)
        low, median, high = np.interp(places, ranks, pick_ranks(values, ranks))
        return Intensity(float(mean), float(sd), float(low), float(median), float(high))


def pick_ranks(values: Float32[np.ndarray, " n"], ranks: Int[np.ndarray, " k"]) -> Float32[np.ndarray, " k"]:
    """Give the values that a sort would put at these ranks, ascending ones.

    Counted by their upper 16 bits, in the order of the numbers; only what shares these with a rank is sorted.
    """
    bits = (values.view(np.int32) >> 16).astype(np.int16)
    keys = (bits ^ (bits >> 15 | -0x8000)).view(np.uint16)  # of negative numbers the larger bits are the smaller one
    up_to = np.cumsum(np.bincount(keys, minlength=1 << 16))
    found = np.empty(len(ranks), np.float32)
    wanted = np.searchsorted(up_to, ranks, side="right")
    for key in np.unique(wanted):
        alike, here = keys == key, wanted == key
        count, one = np.count_nonzero(alike), values[alike.argmax()]
        if np.count_nonzero(values == one) == count:  # black, of which there is much in many scans
            found[here] = one
        else:
            found[here] = np.sort(values[alike])[ranks[here] - up_to[key] + count]
    return found


def measure_stored(voxels: Voxels, blend: Blend, image_size: Grid) -> Intensity:
    """Measure stored frames as if they were resized, for presets that change values before the resize."""
    sample = BrightnessSample(image_size)
    for planes in resize_slices(voxels, blend, np.empty(image_size, np.float32)):
        sample.add(planes, origin_of(voxels))
    return sample.measure()
