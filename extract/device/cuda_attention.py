"""Which of torch's attention kernels a GPU gets: the fastest first, and never the one that holds the score matrix."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from extract.device.backend import DTYPES, Precision
from extract.encoder.attention import Attention

KERNELS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
HOPPER, AMPERE = (9, 0), (8, 0)
"""Compute capabilities: from the first on, cuDNN's kernel uses what flash attention 2 leaves idle; bfloat16 needs the
second."""


def kernels_of(capability: tuple[int, int], dtype: torch.dtype) -> tuple[str, ...]:
    """Give the kernels for numbers of a type, the fastest first; none where the GPU has no kernel for them."""
    if dtype == torch.float32:
        return ("efficient",)
    if capability < AMPERE:
        return ()
    return ("cuDNN", "flash", "efficient") if capability >= HOPPER else ("flash", "efficient", "cuDNN")


def choose_attention(capability: tuple[int, int]) -> Attention:
    """Give the attention of a GPU; which kernel it takes depends on the numbers it is given, as under autocast."""
    orders = {dtype: [KERNELS[name] for name in kernels_of(capability, dtype)] for dtype in DTYPES.values()}
    return partial(_attend, orders=orders)


def describe_attention(capability: tuple[int, int], precision: Precision) -> str:
    """Name the kernel that is asked first."""
    return f"{kernels_of(capability, DTYPES[precision])[0]} attention"


def _attend(query: Tensor, key: Tensor, value: Tensor, *, orders: Mapping[torch.dtype, Sequence[SDPBackend]]) -> Tensor:
    with sdpa_kernel(list(orders[query.dtype]), set_priority=True):
        return functional.scaled_dot_product_attention(query, key, value)
