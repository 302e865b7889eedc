"""A frozen encoder: its module, its identity, and what its file tells about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from extract.encoder.architecture import Architecture
from extract.encoder.module import EncoderModule
from extract.encoder.transformer import Transformer


@dataclass(frozen=True)
class Encoder:
    """An encoder that only reads: float32 on the CPU, eval mode, no gradients.

    weights_sha256: digest of the tensors in use, the same for a .pt and a .safetensors of the same weights.
    source: what to call it in messages. facts: epoch, step, loss and whatever else the file tells.
    """

    module: EncoderModule
    architecture: Architecture
    weights_sha256: str
    source: str
    facts: Mapping[str, Any]


def freeze(
    architecture: Architecture, weights: Mapping[str, Float32[Tensor, "..."]], source: str, facts: Mapping[str, Any]
) -> Encoder:
    """Put complete weights into a module without ever initialising one at random."""
    with torch.device("meta"):
        module = Transformer(architecture)
    module.load_state_dict(dict(weights), strict=True, assign=True)
    module.eval().requires_grad_(requires_grad=False)
    return Encoder(module, architecture, weights_digest(architecture.kind.file_form(weights)), source, facts)


def weights_digest(weights: Mapping[str, Float32[Tensor, "..."]]) -> str:
    """Digest sorted names (of the family's files), dtype, shapes and little-endian float32 bytes: sha256 in hex."""
    digest = sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name].numpy(), dtype="<f4")
        digest.update(f"{name} float32 {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
