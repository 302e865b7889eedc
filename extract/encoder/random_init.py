"""Encoders with random weights: the demo's, and the twin that a pretrained encoder must beat."""

from dataclasses import replace
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from extract.encoder.architecture import Architecture
from extract.encoder.encoder import Encoder, freeze

STD = 0.02
"""Of weights and position table, as in pretraining; the usual cut at +-2 is a hundred of these away."""

ARCHITECTURES = {
    "tiny": Architecture("vjepa3d", (32, 96, 96), (4, 16, 16), width=192, depth=4, heads=3, mlp_width=768),
    "base": Architecture("vjepa3d", (64, 384, 384), (4, 16, 16), width=768, depth=12, heads=12, mlp_width=3072),
}


def random_encoder(name: str, image_size: Grid | None = None) -> Encoder:
    """Make "random:tiny" or "random:base", optionally "random:tiny,seed=3"; image_size in voxels (D, H, W).

    A seed gives the same weights on every machine. Raises UsageError on any other name or option.
    """
    size, seed = _parse(name)
    architecture = ARCHITECTURES[size]
    if image_size is not None:
        architecture = replace(architecture, image_size=image_size)
    return random_twin(architecture, seed, f"random:{size},seed={seed}")


def random_twin(architecture: Architecture, seed: int, source: str) -> Encoder:
    """Make a randomly initialised encoder of any architecture."""
    shapes = architecture.tensor_shapes
    weights = {name: _initial(name, shape, seed) for name, shape in shapes.items()}
    return freeze(architecture, weights, source, {"seed": seed})


def _parse(name: str) -> tuple[str, int]:
    family, _, rest = name.partition(":")
    size, *options = rest.split(",")
    if family != "random" or size not in ARCHITECTURES:
        raise UsageError(f"encoder {name!r}: expected random:{' or random:'.join(ARCHITECTURES)}, optionally ,seed=N")
    seed = 0
    for option in options:
        key, _, value = option.partition("=")
        if key != "seed" or not value.isdecimal():
            raise UsageError(f"encoder {name!r}: unknown option {option!r}; expected seed=N with N from 0")
        seed = int(value)
    return size, seed


def _initial(name: str, shape: tuple[int, ...], seed: int) -> Float32[Tensor, "..."]:
    """Draw one tensor: norms are 1, biases 0, the rest normal.

    Each tensor has a stream of its own, so an encoder of another image size differs in its position table only.
    NumPy draws because torch's normal numbers depend on the processor's vector width.
    """
    if name.endswith("bias"):
        return torch.zeros(shape)
    if "norm" in name:
        return torch.ones(shape)
    rng = np.random.default_rng([seed, crc32(name.encode())])
    return torch.from_numpy(rng.normal(0.0, STD, shape).astype(np.float32))
