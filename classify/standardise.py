"""Standardise features within protocol: the device dominates an embedding's variance, so it is taken out first."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

RARE_VOLUMES = 10
"""A protocol with fewer training volumes than this uses the statistics of all training volumes."""

_ARRAYS = "standardiser.npz"
_NAMES = "standardiser.json"


@dataclass(frozen=True)
class Standardiser:
    """Means and standard deviations learned from training volumes: row 0 over all, then one row a protocol."""

    protocols: tuple[str, ...]
    mean: Float64[np.ndarray, "groups d"]
    scale: Float64[np.ndarray, "groups d"]

    @classmethod
    def fit(cls, x: Float32[np.ndarray, "n d"], protocol: Shaped[np.ndarray, " n"]) -> "Standardiser":
        """Learn from training volumes; a feature that never varies is only centred."""
        names, counts = np.unique(protocol, return_counts=True)
        frequent = tuple(str(name) for name, count in zip(names, counts, strict=True) if count >= RARE_VOLUMES)
        groups = [x, *(x[protocol == name] for name in frequent)]
        mean = np.stack([group.mean(axis=0, dtype=np.float64) for group in groups])
        spread = np.stack([group.std(axis=0, dtype=np.float64) for group in groups])
        return cls(frequent, mean, np.where(_varies(spread, mean), spread, 1.0))

    def transform(
        self, x: Float32[np.ndarray, "n d"], protocol: Shaped[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n d"]:
        """Give (x - mean) / scale of each volume's protocol, or of all for a rare or unseen protocol."""
        group_of = {name: number for number, name in enumerate(self.protocols, start=1)}
        group = np.array([group_of.get(name, 0) for name in protocol.tolist()], dtype=np.int64)
        out = np.empty_like(x)
        for number in np.unique(group):
            rows = group == number
            out[rows] = (x[rows] - self.mean[number]) / self.scale[number]
        return out

    def save(self, folder: Path) -> None:
        """Write two plain files: numbers as npz, protocol names as JSON."""
        np.savez(folder / _ARRAYS, mean=self.mean, scale=self.scale)
        (folder / _NAMES).write_text(json.dumps({"protocols": list(self.protocols)}, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Standardiser":
        """Read what save wrote; nothing is unpickled."""
        protocols = tuple(json.loads((folder / _NAMES).read_text())["protocols"])
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return cls(protocols, arrays["mean"], arrays["scale"])


def _varies(
    spread: Float64[np.ndarray, "groups d"], mean: Float64[np.ndarray, "groups d"]
) -> Bool[np.ndarray, "groups d"]:
    """Tell rounding noise of a constant feature from spread: float32 keeps about seven digits."""
    return np.asarray(spread > 1e-6 * np.abs(mean) + 1e-30)
