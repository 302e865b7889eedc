"""What happens to a volume in an epoch: drawn from its own seed, whatever worker does it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from embeddings_store.schema import Eye
from finetune.augment.geometry import Affine, apply_affine, mirror, shift_axially, tilted_plane
from finetune.augment.light import add_noise, add_shadows, add_speckle, change_contrast, lose_frames, z_score
from finetune.augment.mixing import cutmix, mixup
from finetune.config import AugmentConfig

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
        if self.strength == 0:
            return volume, eye
        moved, eye = self._move(volume, eye, rng)
        return z_score(self._relight(moved, rng)), eye

    def draw_mixing(self, rng: np.random.Generator) -> "Mixing | None":
        """Decide whether, and how, a volume is mixed with another."""
        parameters = {"mixup": self.config.mixup, "cutmix": self.config.cutmix}
        ways = [(name, parameter) for name, parameter in parameters.items() if parameter > 0]
        if not ways or rng.random() >= self.config.mixing * self.strength:
            return None
        name, parameter = ways[int(rng.integers(len(ways)))]
        return Mixing(name, float(rng.beta(parameter, parameter)))

    def _move(self, volume: Volume, eye: Eye, rng: np.random.Generator) -> tuple[Volume, Eye]:
        config, (frames, rows, columns) = self.config, volume.shape[1:]
        if rng.random() < config.mirror * self.strength:
            volume, eye = mirror(volume, eye)
        swing = rng.uniform(-self.strength, self.strength, 11)
        if config.rotation_degrees or config.scaling or config.shift:
            angles = np.deg2rad(config.rotation_degrees) * swing[:2]
            scales, shifts = 1 + config.scaling * swing[2:5], config.shift * swing[5:8] * (frames, rows, columns)
            change = Affine(
                (float(angles[0]), float(angles[1])),
                (float(scales[0]), float(scales[1]), float(scales[2])),
                (float(shifts[0]), float(shifts[1]), float(shifts[2])),
            )
            volume = apply_affine(volume, change)
        if config.axial_shift or config.tilt:
            plane = tilted_plane(
                frames, columns, shift_px=config.axial_shift * rows * swing[8],
                frame_tilt_px=config.tilt * rows * swing[9], lateral_tilt_px=config.tilt * rows * swing[10],
            )  # fmt: skip
            volume = shift_axially(volume, plane)
        return volume, eye

    def _relight(self, volume: Volume, rng: np.random.Generator) -> Volume:
        config, strength = self.config, self.strength
        if config.contrast:
            volume = change_contrast(volume, 1 + config.contrast * float(rng.uniform(-strength, strength)))
        if config.shadows:
            count = int(rng.integers(0, config.shadows + 1))
            centres, widths, depths = rng.random((3, count)).astype(np.float32)
            volume = add_shadows(volume, centres, 0.01 + 0.05 * widths, np.float32(2 * strength) * depths)
        if config.speckle:
            contrast = config.speckle * strength * max(float(rng.random()), 0.05)
            volume = add_speckle(volume, contrast**-2, rng)
        if config.noise:
            volume = add_noise(volume, config.noise * strength * float(rng.random()), int(rng.integers(2**31)))
        most = int(config.frame_dropout * strength * volume.shape[1])
        if most:
            volume = lose_frames(volume, rng.choice(volume.shape[1], int(rng.integers(0, most + 1)), replace=False))
        return volume


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
