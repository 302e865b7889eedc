"""Cohorts of known truth: vectors of people with eyes and repeated scans, and copies of them."""

import numpy as np


def simulate_scans(
    rng: np.random.Generator, people: int, *, scans: int, latent: int = 40, width: int = 192, noise: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Give vectors (float32) and participants: a person's look, an eye's, a device's, and a scan's own noise."""
    mix = rng.standard_normal((latent, width)) / np.sqrt(latent)
    person = np.repeat(rng.standard_normal((people, latent)), 2 * scans, axis=0)
    eye = np.repeat(rng.standard_normal((2 * people, latent)), scans, axis=0)
    device = rng.standard_normal((3, width)) * 2
    rows = 2 * scans * people
    vectors = (person + 0.5 * eye) @ mix + device[rng.integers(0, 3, rows)] + noise * rng.standard_normal((rows, width))
    return vectors.astype(np.float32), np.repeat([f"{1000 + one}" for one in range(people)], 2 * scans)


def copy_with_noise(rng: np.random.Generator, vectors: np.ndarray, noise: float) -> np.ndarray:
    """Copy vectors with noise of that share of each feature's standard deviation."""
    spread = vectors.std(axis=0) if len(vectors) > 1 else np.ones(vectors.shape[1])
    return (vectors + noise * spread * rng.standard_normal(vectors.shape)).astype(np.float32)
