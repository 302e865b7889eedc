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
from extract.encoder.families import FAMILIES

STD = 0.02
"""Of weights and position table, as in pretraining; the usual cut at +-2 is a hundred of these away."""

PREFIX = {"cls_token": 1, "registers": 4, "global_tokens": 1}
"""Prefix tokens of the families that have them, by the name of the tensor."""

ARCHITECTURES = {
    "tiny": Architecture("vjepa3d", (32, 96, 96), (4, 16, 16), width=192, depth=4, heads=3, mlp_width=768),
    "base": Architecture("vjepa3d", (64, 384, 384), (4, 16, 16), width=768, depth=12, heads=12, mlp_width=3072),
}


def random_encoder(name: str, image_size: Grid | None = None, slices: int | None = None) -> Encoder:
    """Make "random:tiny" or "random:base", optionally "random:tiny,seed=3"; image_size in voxels (D, H, W).

    "random:tiny,family=retfound" is a small one of another family; slices: frames that a family of single B-scans sees,
    where image_size does not say. A seed gives the same weights on every machine. Raises UsageError on any other name
    or option.
    """
    size, seed, family = _parse(name)
    architecture = ARCHITECTURES[size]
    if family != architecture.family:
        kind, (depth, height, width) = FAMILIES[family], architecture.image_size
        prefix = sum(count for token, count in PREFIX.items() if token in kind.extra)
        shape, patch = ((slices or kind.frames or depth), 1) if kind.slices else (depth, 2)
        architecture = replace(
            architecture, family=family, image_size=(shape, height, width), patch=(patch, 16, 16), prefix=prefix
        )
    if image_size is not None:
        architecture = replace(architecture, image_size=image_size)
    own = "" if family == ARCHITECTURES[size].family else f",family={family}"
    return random_twin(architecture, seed, f"random:{size}{own},seed={seed}")


def random_twin(architecture: Architecture, seed: int, source: str) -> Encoder:
    """Make a randomly initialised encoder of any architecture."""
    shapes = architecture.tensor_shapes
    weights = {name: _initial(name, shape, seed) for name, shape in shapes.items()}
    return freeze(architecture, weights, source, {"seed": seed})


def _parse(name: str) -> tuple[str, int, str]:
    start, _, rest = name.partition(":")
    size, *options = rest.split(",")
    if start != "random" or size not in ARCHITECTURES:
        raise UsageError(f"encoder {name!r}: expected random:{' or random:'.join(ARCHITECTURES)}, optionally ,seed=N")
    seed, family = 0, ARCHITECTURES[size].family
    for option in options:
        key, _, value = option.partition("=")
        if key == "family" and size == "tiny" and value in FAMILIES:
            family = value
        elif key == "seed" and value.isdecimal():
            seed = int(value)
        else:
            raise UsageError(
                f"encoder {name!r}: unknown option {option!r}; expected seed=N with N from 0, or of random:tiny "
                f"family=NAME of {', '.join(FAMILIES)}"
            )
    return size, seed, family


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
