"""Which attention runs where, as far as that can be seen without a TPU."""

import pytest
import torch

from extract.device.xla_attention import attend_in_chunks, choose_attention, flash_attention
from extract.encoder.attention import fused_attention


@pytest.mark.parametrize(
    ("kind", "precision", "expected"),
    [
        ("TPU", "bf16", flash_attention),
        ("TPU", "fp32", attend_in_chunks),
        ("CPU", "bf16", attend_in_chunks),
        ("CPU", "fp32", attend_in_chunks),
    ],
)
def test_flash_attention_is_for_bf16_on_a_tpu(kind: str, precision: str, expected: object) -> None:
    assert choose_attention(kind, precision) is expected


@pytest.mark.parametrize("tokens", [288, 1025])
def test_lengths_that_the_flash_kernel_would_pad_are_attended_in_chunks(tokens: int) -> None:
    generator = torch.Generator().manual_seed(3)
    query, key, value = torch.randn((3, 2, 3, tokens, 16), generator=generator)
    found = flash_attention(query, key, value)  # with whole blocks, this machine would be asked for a TPU
    torch.testing.assert_close(found, fused_attention(query, key, value), atol=1e-5, rtol=0)
