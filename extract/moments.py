"""Mean and standard deviation of values that come in pieces, each looked at while it is in the processor's cache."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(slots=True)
class Moments:
    """Mean, and sum of squared distances from it, of everything added so far; in float64.

    Pieces are merged as by Chan, Golub and LeVeque (1979), so that a large mean costs no digits of the spread.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, planes: Float32[np.ndarray, "k rows columns"]) -> None:
        """Take in some planes; values that are not finite make both moments not finite."""
        for plane in planes:
            mean = float(plane.sum(axis=-1).sum(dtype=np.float64)) / plane.size
            centred = plane - np.float32(mean)
            squares = float(np.einsum("rc,rc->r", centred, centred).sum(dtype=np.float64))
            self._merge(plane.size, mean, squares)

    def _merge(self, count: int, mean: float, squares: float) -> None:
        step, total = mean - self.mean, self.count + count
        self.squares += squares + step * step * self.count * count / total
        self.mean += step * count / total
        self.count = total

    @property
    def sd(self) -> float:
        """The population standard deviation."""
        return float(np.sqrt(self.squares / self.count))

    def fit_float32(self) -> bool:
        """Tell whether every value's distance from the mean is a finite float32: it is at most sqrt(count) x sd."""
        return bool(np.isfinite(self.mean) and self.sd * np.sqrt(self.count) < np.finfo(np.float32).max)
