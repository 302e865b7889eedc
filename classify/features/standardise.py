"""Standardise features within protocol: the device dominates an embedding's variance, so it is taken out first.

Of patch tokens each channel is standardised over all tokens of all volumes, so that a place that differs from the
others still does.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped, UInt8

from classify.model_files import read_arrays, read_object, readable
from classify.on_cores import on_cores, parts_of

RARE_VOLUMES = 10
"""A protocol with fewer training volumes than this uses the statistics of all training volumes."""

BLOCK_NUMBERS = 65_536
"""Numbers that are worked on at once, in float64: few enough to stay in a core's cache."""

MOST_TOKENS = 1_000_000

RAW_BY = 0.1
"""Features are raw where each number is likelier so by this, in logarithms, on average."""

Features: TypeAlias = Float32[np.ndarray, "n features"] | UInt8[np.ndarray, "n features"]

_ARRAYS = "standardiser.npz"
_NAMES = "standardiser.json"


@dataclass(frozen=True)
class Standardiser:
    """Means and standard deviations learned from training volumes: row 0 over all, then one row a protocol.

    tokens: how many vectors of d numbers lie side by side in a row of features; 1 for pooled vectors.
    """

    protocols: tuple[str, ...]
    mean: Float64[np.ndarray, "groups d"]
    scale: Float64[np.ndarray, "groups d"]
    tokens: int = 1

    @classmethod
    def fit(
        cls,
        x: Features,
        protocol: Shaped[np.ndarray, " n"],
        *,
        tokens: int = 1,
        rows: Int64[np.ndarray, " m"] | None = None,
    ) -> "Standardiser":
        """Learn from training volumes; a feature that never varies is only centred. rows: those to learn from, or all.

        No copy is made of the rows that are chosen.
        """
        chosen = np.arange(len(x)) if rows is None else rows
        names, counts = np.unique(protocol[chosen], return_counts=True)
        frequent = tuple(str(name) for name, count in zip(names, counts, strict=True) if count >= RARE_VOLUMES)
        members = [chosen, *(chosen[protocol[chosen] == name] for name in frequent)]
        mean, spread = (np.stack(parts) for parts in zip(*(_moments(x, rows, tokens) for rows in members), strict=True))
        return cls(frequent, mean, np.where(_varies(spread, mean), spread, 1.0), tokens)

    def transform(
        self,
        x: Float32[np.ndarray, "n features"],
        protocol: Shaped[np.ndarray, " n"],
        rows: Int64[np.ndarray, " m"] | None = None,
    ) -> Float32[np.ndarray, "m features"]:
        """Give (x - mean) / scale of each volume's protocol, or of all for a rare or unseen protocol.

        rows: those that are wanted, or all. No copy is made of them as they came.
        """
        chosen = np.arange(len(x)) if rows is None else rows
        group = np.zeros(len(chosen), np.int64)
        for number, name in enumerate(self.protocols, start=1):
            group[protocol[chosen] == name] = number
        out = np.empty((len(chosen), x.shape[1]), dtype=x.dtype)

        def fill(part: slice) -> None:
            for number in np.unique(group[part]):
                for some in _blocks(part.start + np.flatnonzero(group[part] == number), x.shape[1]):
                    vectors = x[chosen[some]].reshape(len(some), self.tokens, -1) - self.mean[number]
                    vectors /= self.scale[number]
                    out[some] = vectors.reshape(len(some), -1)

        on_cores(fill, parts_of(len(out)))
        return out

    def looks_raw(self, x: Float[np.ndarray, "n features"]) -> bool:
        """Say whether features are likelier ones that this would standardise than ones that it has standardised.

        Normal distributions are compared: those of all training volumes and of each protocol, and that with 0 and 1.
        Where these are about the same, nothing can be told, and little is lost.
        """
        if not len(x):
            return False
        vectors = x.reshape(len(x) * self.tokens, -1)
        groups = zip(self.mean, self.scale, strict=True)
        likelier = [((vectors**2 - ((vectors - m) / s) ** 2) / 2 - np.log(s)).mean(axis=1) for m, s in groups]
        return float(np.max(likelier, axis=0).mean()) > RAW_BY

    def with_protocols_of(self, other: "Standardiser") -> "Standardiser":
        """Add the protocols of another that this one does not know."""
        new = [name for name in other.protocols if name not in self.protocols]
        moments = [other.of(name) for name in new]
        mean, scale = (np.vstack([own, *(one[k] for one in moments)]) for k, own in enumerate((self.mean, self.scale)))
        return Standardiser((*self.protocols, *new), mean, scale, self.tokens)

    def of(self, protocol: str) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
        """Give mean and scale of one protocol, or of all for a rare or unseen one."""
        group = self.protocols.index(protocol) + 1 if protocol in self.protocols else 0
        return self.mean[group], self.scale[group]

    def save(self, folder: Path) -> None:
        """Write two plain files: numbers as npz, protocol names as JSON."""
        np.savez(folder / _ARRAYS, mean=self.mean, scale=self.scale)
        (folder / _NAMES).write_text(json.dumps({"protocols": list(self.protocols), "tokens": self.tokens}, indent=2))

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Say whether a folder holds one."""
        return (folder / _NAMES).exists()

    @classmethod
    def load(cls, folder: Path) -> "Standardiser":
        """Read what save wrote; nothing is unpickled. Older runs had no tokens.

        Raises: RunFolderError where there is none that can be read.
        """
        names, arrays = read_object(folder / _NAMES), read_arrays(folder / _ARRAYS)
        with readable(f"{folder.name}/{_ARRAYS}"):
            protocols, tokens = tuple(map(str, names["protocols"])), names.get("tokens", 1)
            mean, scale = (arrays[name].astype(np.float64, casting="safe") for name in ("mean", "scale"))
            if mean.shape != scale.shape or mean.ndim != 2 or len(mean) != 1 + len(protocols) or not (scale > 0).all():
                raise ValueError(f"expected mean and positive scale of {1 + len(protocols)} groups, got {mean.shape}")
            if type(tokens) is not int or not 0 < tokens <= MOST_TOKENS:
                raise ValueError(f"expected a number of tokens, got {tokens!r}")
            return cls(protocols, mean, scale, tokens)


def _varies(
    spread: Float64[np.ndarray, "groups d"], mean: Float64[np.ndarray, "groups d"]
) -> Bool[np.ndarray, "groups d"]:
    """Tell rounding noise of a constant feature from spread: float32 keeps about seven digits."""
    return np.asarray(spread > 1e-6 * np.abs(mean) + 1e-30)


def _moments(
    x: Features, rows: Int64[np.ndarray, " m"], tokens: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Give mean and standard deviation of the vectors in some rows, in two passes."""
    count = len(rows) * tokens
    channels = x.shape[1] // tokens

    def add(part: slice, mean: Float64[np.ndarray, " d"] | None = None) -> Float64[np.ndarray, " d"]:
        total = np.zeros(channels)
        for block in _blocks(rows[part], x.shape[1]):
            vectors = x[block].reshape(-1, channels)
            if mean is None:
                total += vectors.astype(np.float64).sum(axis=0)
            else:
                apart = vectors - mean
                total += np.einsum("nc,nc->c", apart, apart)
        return total

    mean = np.sum(on_cores(add, parts_of(len(rows))), axis=0) / count
    squares = np.sum(on_cores(partial(add, mean=mean), parts_of(len(rows))), axis=0)
    return mean, np.sqrt(squares / count)


def _blocks(rows: Int64[np.ndarray, " m"], features: int) -> Iterator[Int64[np.ndarray, " b"]]:
    step = max(1, BLOCK_NUMBERS // features)
    for first in range(0, len(rows), step):
        yield rows[first : first + step]
