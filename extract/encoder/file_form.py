"""The names that a family's own files have for the module's tensors; the digest of these is the encoder's identity."""

import re
from collections.abc import Mapping

from torch import Tensor

OWN_NAMES = (
    (r"^patch_embed\.", "embeddings.patch_embeddings."),
    (r"^blocks\.", "layer."),
    (r"^norm\.", "layernorm."),
    (r"\.attn\.", ".attention."),
)
PARTS = ("query", "key", "value")


def as_hugging_face(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a Hugging Face V-JEPA 2 file: queries, keys and values apart."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        own = name
        for pattern, replacement in OWN_NAMES:
            own = re.sub(pattern, replacement, own)
        if ".qkv." in own:
            parts = zip(PARTS, tensor.chunk(3), strict=True)
            found |= {own.replace("qkv", part): piece.contiguous() for part, piece in parts}
        else:
            found[own] = tensor
    return found
