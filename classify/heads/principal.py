"""Principal components of weighted rows, with signs that do not depend on the machine."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, slots=True)
class Components:
    """Orthonormal directions of the features, that of the largest variance first."""

    mean: Float64[np.ndarray, " d"]
    directions: Float64[np.ndarray, "components d"]

    def first(self, count: int) -> "Components":
        """Keep the first so many, or all where there are fewer."""
        return Components(self.mean, self.directions[:count])

    def project(self, rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n components"]:
        """Give the coordinates of rows along the directions."""
        return np.asarray((rows - self.mean) @ self.directions.T)


def find_components(rows: Float[np.ndarray, "n d"], weights: Float64[np.ndarray, " n"]) -> Components:
    """Find all components of weighted rows (Jolliffe 2002), at most one fewer than there are rows.

    The largest entry of a direction is positive: an eigenvector's sign is an accident.
    """
    mean = weights @ rows / weights.sum()
    weighted = (rows - mean) * np.sqrt(weights)[:, None]
    directions = np.linalg.svd(weighted, full_matrices=False)[2][: max(1, len(rows) - 1)]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    return Components(mean, directions * np.where(largest < 0, -1.0, 1.0)[:, None])
