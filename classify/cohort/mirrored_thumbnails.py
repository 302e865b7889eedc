"""Thumbnails as points that lie near each other where the scans are alike, whichever way the copy was turned."""

import numpy as np
from jaxtyping import Float32, UInt8
from sklearn.utils.extmath import randomized_svd

COMPONENTS = 64
"""Few enough that the noise of a lossy copy, which is in all cells alike, is left out with the others."""

LEARNED_FROM = 256
BLOCK = 512
MIRRORED = ((), (3,), (1,), (1, 3))
"""Axes that a copy may be turned along: laterally (to pass as the other eye), and the order of its frames."""


def place_thumbnails(images: UInt8[np.ndarray, "n 8 32 32"], *, seed: int = 0) -> Float32[np.ndarray, "4 n k"]:
    """Give each thumbnail as a point, and the points of its mirror images, in the order of MIRRORED.

    Brightness and contrast are taken out first: the squared distance of two points is at most 2 - 2 x correlation.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(images), min(LEARNED_FROM, len(images)), replace=False))
    seen = np.concatenate([_unit(np.flip(images[chosen], axes)) for axes in MIRRORED])
    middle = seen.mean(axis=0)
    kept = min(COMPONENTS, *seen.shape)
    _, _, directions = randomized_svd(seen - middle, kept, n_iter=2, random_state=seed)
    placed = np.empty((len(MIRRORED), len(images), kept), np.float32)
    for first in range(0, len(images), BLOCK):
        for image, axes in enumerate(MIRRORED):
            rows = slice(first, first + BLOCK)
            placed[image, rows] = (_unit(np.flip(images[rows], axes)) - middle) @ directions.T
    return placed


def _unit(images: UInt8[np.ndarray, "n 8 32 32"]) -> Float32[np.ndarray, "n 8192"]:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo("f4").tiny))
