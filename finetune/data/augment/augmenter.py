"""What happens to a volume in an epoch: drawn from its own seed, whatever worker or device does it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embeddings_store.grid import Grid
from embeddings_store.schema import Eye
from extract.augment.draws import Draws, draw_changes
from finetune.data.augment.mixing import Mixture, cutmix, mixup
from finetune.recipe.config import AugmentConfig


@dataclass(frozen=True)
class Augmenter:
    """Draws changes by a recipe at a strength from 0, which changes nothing, to 1.

    seed: whatever names the run and the stage.
    """

    config: AugmentConfig
    strength: float
    seed: tuple[int, ...]

    def rng_of(self, volume: str, epoch: int, repeat: int) -> np.random.Generator:
        """Give the random numbers of one volume (16 hex digits) in one epoch; repeat: its n-th time there."""
        return np.random.default_rng([*self.seed, epoch, repeat, int(volume, 16)])

    def draw(self, size: Grid, eye: Eye, rng: np.random.Generator) -> Draws:
        """Draw the changes of one volume."""
        return draw_changes(size, eye, self.config.changes, self.strength, rng)[0]

    @property
    def mixes(self) -> bool:
        """Say whether any volume may be mixed with another."""
        return bool(self._ways) and self.config.mixing * self.strength > 0

    def draw_mixing(self, rng: np.random.Generator) -> "Mixing | None":
        """Decide whether, and how, a volume is mixed with another."""
        ways = self._ways
        if not ways or rng.random() >= self.config.mixing * self.strength:
            return None
        name, parameter = ways[int(rng.integers(len(ways)))]
        return Mixing(name, float(rng.beta(parameter, parameter)))

    @property
    def _ways(self) -> list[tuple[str, float]]:
        parameters = {"mixup": self.config.mixup, "cutmix": self.config.cutmix}
        return [(name, parameter) for name, parameter in parameters.items() if parameter > 0]


@dataclass(frozen=True, slots=True)
class Mixing:
    """One decision to mix: the way, and the share of the first volume."""

    way: str
    share: float

    def draw(self, size: Grid, rng: np.random.Generator) -> tuple[Mixture, float]:
        """Draw where; give the share of the first volume as it will come out, too."""
        ways: dict[str, Callable[[], tuple[Mixture, float]]] = {
            "mixup": lambda: mixup(self.share),
            "cutmix": lambda: cutmix(size, self.share, rng),
        }
        return ways[self.way]()
