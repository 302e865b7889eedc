"""The training cases that a new volume looks most like, by the angle between standardised features."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int64, Shaped

ROWS_AT_ONCE = 512
"""Bounds the memory: 512 new volumes x 25,000 of train are 51 MB."""


@dataclass(frozen=True)
class KnownVolumes:
    """Every training volume: standardised features scaled to length 1, whose it is, and its class or number."""

    direction: Float16[np.ndarray, "n d"]
    volume: Shaped[np.ndarray, " n"]
    participant: Shaped[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]

    @classmethod
    def remember(
        cls,
        blocks: Iterable[Float32[np.ndarray, "b d"]],
        volume: Shaped[np.ndarray, " n"],
        participant: Shaped[np.ndarray, " n"],
        label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    ) -> "KnownVolumes":
        """Keep directions in float16: 1.5 kB a vector of 768, and distances good to about 1e-4.

        blocks: standardised features, some rows at a time.
        """
        directions = np.concatenate([_directions(block).astype(np.float16) for block in blocks])
        return cls(directions, volume, participant, label)

    def check(self) -> None:
        """Raise ValueError where the volumes of train are none, or their directions, names and labels do not match."""
        count = self.direction.shape[:1]
        if self.direction.ndim != 2 or self.direction.dtype != np.float16 or count == (0,):
            raise ValueError("expected the directions of the volumes of train")
        if any(part.shape != count for part in (self.volume, self.participant, self.label)):
            raise ValueError("expected a volume, a participant and a label of each direction")
        if self.label.dtype.kind not in "if":
            raise ValueError("expected labels that are numbers")

    def with_directions_of(self, x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "m d"]:
        """Give the directions of other standardised features, and under them those that are known."""
        return np.concatenate([_directions(x), self.direction.astype(np.float32)])

    def nearest(
        self, x: Float32[np.ndarray, "n d"], count: int
    ) -> tuple[Int64[np.ndarray, "n found"], Float64[np.ndarray, "n found"]]:
        """Give the rows of the nearest volume of each of the ``count`` nearest participants, and the cosine distances.

        Nearest first; fewer where train has fewer people. Distance: 1 - cosine, from 0 (same direction) to 2.
        """
        _, person = np.unique(self.participant, return_inverse=True)
        known = self.direction.astype(np.float32)
        blocks = [
            _nearest_people(1.0 - _directions(x[start : start + ROWS_AT_ONCE]) @ known.T, person, count)
            for start in range(0, len(x), ROWS_AT_ONCE)
        ]
        found = min(count, int(person.max()) + 1)
        empty = (np.zeros((0, found), np.int64), np.zeros((0, found)))
        rows, distances = zip(*blocks, strict=True) if blocks else ([empty[0]], [empty[1]])
        return np.concatenate(rows), np.concatenate(distances)


def _nearest_people(
    distance: Float32[np.ndarray, "block n"], person: Int64[np.ndarray, " n"], count: int
) -> tuple[Int64[np.ndarray, "block found"], Float64[np.ndarray, "block found"]]:
    """Keep each person's nearest volume, then the nearest people; of equals the first in the order of train."""
    by_person = np.argsort(person, kind="stable")
    starts = np.flatnonzero(np.diff(person[by_person], prepend=-1))
    least = np.minimum.reduceat(distance[:, by_person], starts, axis=1)
    people = np.argsort(least, axis=1, kind="stable")[:, :count]
    volumes_of = np.split(by_person, starts[1:])
    rows = [
        [volumes_of[one][away[volumes_of[one]].argmin()] for one in chosen]
        for away, chosen in zip(distance, people, strict=True)
    ]
    found = np.take_along_axis(least, people, axis=1).astype(np.float64)
    return np.array(rows, np.int64).reshape(people.shape), np.clip(found, 0.0, 2.0)


def _directions(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1.0), dtype=np.float32)
