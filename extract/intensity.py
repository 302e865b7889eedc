"""How bright a scan is in the units of its file: what a preset's normalisation takes away, kept beside the vectors."""

import numpy as np
from jaxtyping import Float32

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
        values.sort()  # one sort is faster than three selections
        places = np.array(PERCENTILES) / 100 * (len(values) - 1)
        points = np.unique([np.floor(places), np.ceil(places)]).astype(np.int64)
        low, median, high = np.interp(places, points, values[points])
        return Intensity(float(mean), float(sd), float(low), float(median), float(high))


def measure_stored(voxels: Voxels, blend: Blend, image_size: Grid) -> Intensity:
    """Measure stored frames as if they were resized, for presets that change values before the resize."""
    sample = BrightnessSample(image_size)
    for planes in resize_slices(voxels, blend, np.empty(image_size, np.float32)):
        sample.add(planes, origin_of(voxels))
    return sample.measure()
