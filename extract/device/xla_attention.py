"""Which attention an XLA device gets: its own scaled_dot_product_attention would hold the whole score matrix."""

from importlib import import_module

from torch import Tensor

from extract.device.backend import Precision
from extract.encoder.attention import Attention, chunked_attention

CHUNK_QUERIES = 1024
"""Nine chunks at full size; the memory that this needs is what tests/benchmarks/tpu_compile.py asks the compiler."""

FLASH_BLOCK_TOKENS = 512
"""Of torch_xla's kernel, which pads keys to whole blocks but does not mask them: other lengths come out wrong."""


def choose_attention(kind: str, precision: Precision) -> Attention:
    """Choose flash attention on a TPU in bf16, else attention in chunks of queries.

    kind: "TPU", "CPU" ..., as PJRT names devices. The flash kernel has no CPU form, and rounds float32 to bfloat16.
    """
    return flash_attention if (kind, precision) == ("TPU", "bf16") else attend_in_chunks


def attend_in_chunks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with at most CHUNK_QUERIES rows of the score matrix in memory."""
    return chunked_attention(query, key, value, CHUNK_QUERIES)


def flash_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with the Pallas kernel, where whole blocks fit the tokens; else in chunks."""
    if query.shape[2] % FLASH_BLOCK_TOKENS:
        return attend_in_chunks(query, key, value)
    kernel = import_module("torch_xla.experimental.custom_kernel").flash_attention
    mixed: Tensor = kernel(query, key, value, sm_scale=query.shape[3] ** -0.5)
    return mixed
