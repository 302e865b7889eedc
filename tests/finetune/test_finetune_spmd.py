"""Attention on the chips of a slice: when the kernel is asked, seen without a TPU by a kernel that only notes how."""

import sys
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.encoder.attention import fused_attention
from extract.encoder.random_init import random_encoder
from finetune.parallel import spmd
from finetune.parallel.spmd import VOLUMES, flash_attention_by_chip

MESH = object()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches that the kernel was given; like the real one it takes whole shares of a mesh of four."""
    seen: list[int] = []

    def kernel(query: Any, key: Any, value: Any, *, sm_scale: float, partition_spec: Any, mesh: Any) -> torch.Tensor:
        assert (partition_spec, mesh) == ((VOLUMES, None, None, None), MESH)
        assert sm_scale == query.shape[3] ** -0.5
        assert query.dtype == torch.bfloat16
        assert len(query) % 4 == 0, "the shard map makes four of one"
        seen.append(len(query))
        return fused_attention(query, key, value)

    parts = "torch_xla", "torch_xla.experimental", "torch_xla.experimental.custom_kernel"
    for name in parts:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[parts[-1]], "flash_attention", kernel, raising=False)
    return seen


@pytest.mark.parametrize(
    ("batch", "tokens", "dtype", "by_kernel"),
    [
        (4, 512, torch.bfloat16, True),
        (8, 512, torch.bfloat16, True),
        (1, 512, torch.bfloat16, False),
        (6, 512, torch.bfloat16, False),
        (4, 500, torch.bfloat16, False),
        (4, 512, torch.float32, False),
    ],
)
def test_the_kernel_gets_whole_shares_in_bf16(
    asked: list[int], batch: int, tokens: int, dtype: torch.dtype, by_kernel: bool
) -> None:
    query, key, value = torch.randn(3, batch, 2, tokens, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = flash_attention_by_chip(query, key, value, mesh=MESH, chips=4)
    assert asked == ([batch] if by_kernel else [])
    torch.testing.assert_close(found, fused_attention(query, key, value), atol=2e-2, rtol=2e-2)


def test_one_volume_is_encoded_alone_on_four_chips(asked: list[int]) -> None:
    """As fine-tuning encodes the volumes before it trains; each block has 512 tokens."""
    encoder = random_encoder("random:tiny", (32, 128, 128))
    assert encoder.architecture.token_count % spmd.FLASH_BLOCK_TOKENS == 0
    image = np.random.default_rng(0).normal(size=(1, 1, 32, 128, 128)).astype(np.float32)
    batches = BatchEncoder(encoder, CpuBackend("bf16"))
    expected = batches.encode(image).pooled
    batches._module.use_attention(partial(flash_attention_by_chip, mesh=MESH, chips=4))
    np.testing.assert_allclose(batches.encode(image).pooled, expected, atol=0.05)
    assert asked == []
