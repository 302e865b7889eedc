"""Augmented views of a volume, for its pooled vectors alone: heads on stored features lose augmentation otherwise."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from embeddings_store.schema import Eye
from embeddings_store.space import VIEW
from extract.augment.change import change_volume
from extract.augment.draws import Changes
from extract.preprocess import Room, plain_room


@dataclass(frozen=True, slots=True)
class Views:
    """How many views of each volume, and how they are made; all of it is part of the embedding space.

    View n of a volume depends on the seed, n and the volume alone, so that whoever encodes it makes the same one.
    """

    count: int
    seed: int = 0
    changes: Changes = field(default_factory=Changes)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {"count": self.count, "seed": self.seed, "recipe": asdict(self.changes)}

    def name_pools(self, pools: tuple[str, ...]) -> tuple[str, ...]:
        """Name the pools of the volume, then those of each view, as a store keeps them."""
        return (*pools, *(f"{pool}{VIEW}{number}" for number in range(1, self.count + 1) for pool in pools))

    def beside(
        self, image: Float32[np.ndarray, "C D H W"], eye: Eye, volume: str, room: Room = plain_room
    ) -> Float32[np.ndarray, "V D H W"]:
        """Give the preprocessed volume and its views, one after another. volume: its id, 16 hex digits."""
        if not self.count:
            return image
        numbers = range(1, self.count + 1)
        rngs = [np.random.default_rng([self.seed, number, int(volume, 16)]) for number in numbers]
        changed = [change_volume(image, eye, self.changes, 1.0, rng)[0] for rng in rngs]
        views = [image, *changed]
        return np.concatenate(views, out=room((len(views) * len(image), *image.shape[1:])))
