"""The one place that computes attention, in the ways that different accelerators want it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From query, key and value, each [B, heads, N, head_dim], to the mixed values of the same shape."""


class SelfAttention(nn.Module):
    """What the attention layers of all families share: EncoderModule.use_attention may exchange ``attend``."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Attention = fused_attention


def fused_attention(
    query: Float[Tensor, "B heads N head_dim"],
    key: Float[Tensor, "B heads N head_dim"],
    value: Float[Tensor, "B heads N head_dim"],
) -> Float[Tensor, "B heads N head_dim"]:
    """Attend in torch's own kernel, which holds no score matrix on CPU and CUDA (on XLA it would)."""
    return functional.scaled_dot_product_attention(query, key, value)


def chunked_attention(
    query: Float[Tensor, "B heads N head_dim"],
    key: Float[Tensor, "B heads N head_dim"],
    value: Float[Tensor, "B heads N head_dim"],
    chunk: int,
) -> Float[Tensor, "B heads N head_dim"]:
    """Attend for ``chunk`` queries at a time: scores of [B, heads, chunk, N] are the largest thing alive.

    Where the device's own kernel would hold all N x N scores. The softmax is computed in float32 or wider.
    """
    scaled = query * query.shape[-1] ** -0.5
    transposed = key.transpose(-2, -1)
    mixed = [_attend(rows, transposed, value) for rows in scaled.split(chunk, dim=-2)]
    return torch.cat(mixed, dim=-2)


def _attend(rows: Tensor, transposed_key: Tensor, value: Tensor) -> Tensor:
    """A function of its own, so that one chunk's scores are gone before the next one's are made."""
    scores = rows @ transposed_key
    exact = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=exact).to(value.dtype) @ value
