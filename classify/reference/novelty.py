"""Out of distribution? The Mahalanobis distance to the training embeddings, read on a scale that train did not flatter.

A volume's standardised features become a few coordinates (principal components, and the length of what those leave
out); its distance is the one to the nearest class of train (Lee et al., NeurIPS 2018, section 2.1). A head may be sure
of a volume unlike all it learned from; this number knows nothing of the head.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from classify.cohort.splits import grouped_folds
from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable

COMPONENTS = 64
"""Principal components at most, and no more than train has people for, see PEOPLE_PER_COMPONENT."""

PEOPLE_PER_COMPONENT = 5
FOLDS = 5
THRESHOLD_PERCENTILE = 99.0
"""Of the distances of train: about 1 of 100 ordinary volumes lies above."""

ROWS_AT_ONCE = 4096
"""Rows that are standardised at once: no fold has a copy of its vectors."""

Arrays = Mapping[str, np.ndarray]
Blocks = Callable[[], Iterator[Float32[np.ndarray, "b d"]]]
"""Goes through standardised rows, a block at a time, as often as it is called."""


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian a class, with a covariance that all share, over the coordinates of standardised features.

    left_over: mean length of what the components leave out, and the factor that makes it weigh like a component.
    """

    centre: Float64[np.ndarray, " d"]
    components: Float64[np.ndarray, "c d"]
    left_over: Float64[np.ndarray, "2"]
    class_means: Float64[np.ndarray, "k q"]
    precision: Float64[np.ndarray, "q q"]

    @classmethod
    def fit(cls, blocks: Blocks, y: Int64[np.ndarray, " n"], *, components: int) -> "Gaussians":
        """Learn from standardised rows, in the order of y; the covariance is shrunk as Ledoit and Wolf (2004) do."""
        from sklearn.covariance import LedoitWolf

        centre, axes = _principal_axes(blocks, len(y), components)
        parts = [_project(block, centre, axes) for block in blocks()]
        inside, length = (np.concatenate(part) for part in zip(*parts, strict=True))
        factor = np.sqrt(inside.var(axis=0).mean()) / length.std() if length.std() > 1e-6 * inside.std() else 0.0
        left_over = np.array([length.mean(), factor])
        points = _coordinates(inside, length, left_over)
        classes, code = np.unique(y, return_inverse=True)
        means = np.stack([points[code == number].mean(axis=0) for number in range(len(classes))])
        precision = LedoitWolf(assume_centered=True).fit(points - means[code]).precision_
        return cls(centre, axes, left_over, means, np.asarray(precision, dtype=np.float64))

    def distance(self, x: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """Give the Mahalanobis distance of each standardised row to the nearest class."""
        points = _coordinates(*_project(x, self.centre, self.components), self.left_over)
        apart = points[:, None, :] - self.class_means[None, :, :]
        squared = np.einsum("nkq,qp,nkp->nk", apart, self.precision, apart, optimize=True)
        return np.asarray(np.sqrt(np.clip(squared.min(axis=1), 0.0, None)))


@dataclass(frozen=True)
class NoveltyDetector:
    """Distances, and the percentile of each among those of training volumes that the distance was not fitted on."""

    gaussians: Gaussians
    known_distance: Float64[np.ndarray, " n"]

    @classmethod
    def fit(cls, train: FeatureTable, standardiser: Standardiser, *, seed: int) -> "NoveltyDetector":
        """Learn from the raw features of train.

        known_distance comes from folds of participants; each fits everything anew, the standardiser too, and measures
        the people it left out, so that the distances are those of new people.
        """
        components, kind = count_components(train), kinds_of(train.y)
        fold = grouped_folds(train.participant, train.y, folds=FOLDS, seed=seed)
        known = np.zeros(len(train.y))
        for number in np.unique(fold):
            fit, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = Standardiser.fit(train.x, train.protocol, rows=fit)
            gaussians = Gaussians.fit(standardised_blocks(train, fit, inner), kind[fit], components=components)
            known[held] = np.concatenate(
                [gaussians.distance(block) for block in standardised_blocks(train, held, inner)()]
            )

        every = np.arange(len(train.y))
        whole = Gaussians.fit(standardised_blocks(train, every, standardiser), kind, components=components)
        return cls(whole, np.sort(known))

    def percentile(self, distance: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Give the share of training volumes that lie nearer, in percent: 100 is farther than all of them."""
        nearer = np.searchsorted(self.known_distance, distance, side="left")
        return np.asarray(100.0 * nearer / len(self.known_distance))

    def threshold(self, percentile: float = THRESHOLD_PERCENTILE) -> float:
        """Give the distance above which a volume lies beyond a percentile."""
        place = int(percentile / 100 * len(self.known_distance))
        return float(self.known_distance[min(place, len(self.known_distance) - 1)])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give plain arrays."""
        return {**vars(self.gaussians), "known_distance": self.known_distance}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "NoveltyDetector":
        """Take what to_arrays gave."""
        names = ("centre", "components", "left_over", "class_means", "precision")
        found, known = Gaussians(*(arrays[name] for name in names)), arrays["known_distance"]
        if known.ndim != 1 or not len(known) or (np.diff(known) < 0).any() or known[0] < 0:
            raise ValueError("known_distance: expected distances in rising order")
        found.distance(np.zeros((1, len(found.centre)), np.float32))  # shapes that do not fit are a ValueError
        return cls(found, known)


def kinds_of(y: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Give the class whose Gaussian each row belongs to: numbers are all of one kind."""
    return np.zeros(len(y), np.int64) if np.issubdtype(y.dtype, np.floating) else y


def count_components(train: FeatureTable) -> int:
    """Choose how many principal components the people of train can carry in every fold."""
    people = len(np.unique(train.participant))
    return max(1, min(COMPONENTS, len(train.names), people // PEOPLE_PER_COMPONENT))


def standardised_blocks(table: FeatureTable, rows: Int64[np.ndarray, " m"], standardiser: Standardiser) -> Blocks:
    """Return what goes through some rows of raw features, standardised."""

    def blocks() -> Iterator[Float32[np.ndarray, "b d"]]:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield standardiser.transform(table.x, table.protocol, rows[start : start + ROWS_AT_ONCE])

    return blocks


def _principal_axes(
    blocks: Blocks, rows: int, components: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "c d"]]:
    """Give the mean of rows and their principal axes, the widest first: from products of the features, or of few rows.

    Products of a block are made in float32 and summed in float64; standardised rows have a mean of about 0.
    """
    from scipy.linalg import eigh

    width = next(blocks()).shape[1]
    if rows < width:
        few = np.concatenate(list(blocks())).astype(np.float64)
        centre = few.mean(axis=0)
        _, weights = eigh((few - centre) @ (few - centre).T, subset_by_index=(max(rows - components, 0), rows - 1))
        return centre, np.asarray(np.linalg.svd(weights.T @ (few - centre), full_matrices=False)[2])
    total, products = np.zeros(width), np.zeros((width, width))
    for block in blocks():
        total += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
    centre = total / rows
    _, axes = eigh(products / rows - np.outer(centre, centre), subset_by_index=(width - components, width - 1))
    return centre, np.ascontiguousarray(axes.T[::-1])


def _project(
    x: Float32[np.ndarray, "n d"], centre: Float64[np.ndarray, " d"], components: Float64[np.ndarray, "c d"]
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, " n"]]:
    """Give the components of rows, and the length of what lies outside them."""
    centred = x - centre
    inside = centred @ components.T
    outside = np.einsum("nf,nf->n", centred, centred) - np.einsum("nc,nc->n", inside, inside)
    return inside, np.sqrt(np.clip(outside, 0, None))


def _coordinates(
    inside: Float64[np.ndarray, "n c"], length: Float64[np.ndarray, " n"], left_over: Float64[np.ndarray, "2"]
) -> Float64[np.ndarray, "n q"]:
    return np.column_stack([inside, (length - left_over[0]) * left_over[1]])
