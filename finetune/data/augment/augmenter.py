"""What happens to a volume in an epoch: drawn from its own seed, whatever worker does it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from embeddings_store.schema import Eye
from extract.augment.change import change_volume
from finetune.data.augment.mixing import cutmix, mixup
from finetune.recipe.config import AugmentConfig

Volume = Float32[np.ndarray, "1 D H W"]


@dataclass(frozen=True)
class Augmenter:
    """Changes volumes by a recipe at a strength from 0, which changes nothing, to 1.

    seed: whatever names the run and the stage. The intensities are those of the preset "pretrain" again at the end.
    """

    config: AugmentConfig
    strength: float
    seed: tuple[int, ...]

    def rng_of(self, volume: str, epoch: int, repeat: int) -> np.random.Generator:
        """Give the random numbers of one volume (16 hex digits) in one epoch; repeat: its n-th time there."""
        return np.random.default_rng([*self.seed, epoch, repeat, int(volume, 16)])

    def change(self, volume: Volume, eye: Eye, rng: np.random.Generator) -> tuple[Volume, Eye]:
        """Change one volume; the eye is what it looks like afterwards."""
        return change_volume(volume, eye, self.config.changes, self.strength, rng)

    def draw_mixing(self, rng: np.random.Generator) -> "Mixing | None":
        """Decide whether, and how, a volume is mixed with another."""
        parameters = {"mixup": self.config.mixup, "cutmix": self.config.cutmix}
        ways = [(name, parameter) for name, parameter in parameters.items() if parameter > 0]
        if not ways or rng.random() >= self.config.mixing * self.strength:
            return None
        name, parameter = ways[int(rng.integers(len(ways)))]
        return Mixing(name, float(rng.beta(parameter, parameter)))


@dataclass(frozen=True, slots=True)
class Mixing:
    """One decision to mix: the way, and the share of the first volume."""

    way: str
    share: float

    def apply(self, one: Volume, other: Volume, rng: np.random.Generator) -> tuple[Volume, float]:
        """Mix; give the share of the first volume as it came out."""
        ways: dict[str, Callable[[], tuple[Volume, float]]] = {
            "mixup": lambda: (mixup(one, other, self.share), self.share),
            "cutmix": lambda: cutmix(one, other, self.share, rng),
        }
        return ways[self.way]()
