"""One attention, computed in several ways: the same numbers, and never a whole score matrix."""

import weakref
from copy import deepcopy
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.encoder.architecture import Architecture
from extract.encoder.attention import chunked_attention, fused_attention
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_twin

FAMILIES = {
    "vjepa3d": Architecture("vjepa3d", (16, 64, 64), (4, 16, 16), width=48, depth=2, heads=3, mlp_width=96),
    "vjepa2": Architecture("vjepa2", (16, 64, 64), (2, 16, 16), width=48, depth=2, heads=3, mlp_width=96),
}


class LargestAlive(TorchDispatchMode):
    """Watches what is computed: the elements of the largest tensor, and how many large ones are alive at once."""

    def __init__(self, more_than: int) -> None:
        super().__init__()
        self.more_than, self.largest, self.most = more_than, 0, 0
        self._alive: list[weakref.ref[Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.largest = max(self.largest, made.numel())
            if made.numel() > self.more_than:
                self._alive = [*(ref for ref in self._alive if ref() is not None), weakref.ref(made)]
                storages = {tensor.untyped_storage().data_ptr() for ref in self._alive if (tensor := ref()) is not None}
                self.most = max(self.most, len(storages))
        return made


def vectors(batch: int, heads: int, count: int, head_dim: int, scale: float = 1.0) -> list[torch.Tensor]:
    """Draw query, key and value; ``scale`` makes the first two louder, so that attention is sharper."""
    rng = np.random.default_rng(11)
    shape = (batch, heads, count, head_dim)
    return [torch.from_numpy((s * rng.normal(size=shape)).astype(np.float32)) for s in (scale, scale, 1.0)]


@cache
def encoder(family: str) -> Encoder:
    return random_twin(FAMILIES[family], seed=4, source=family)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 40), st.sampled_from([2, 15, 64]), st.integers(1, 50),
    st.sampled_from([0.1, 1.0, 1.5]),
)  # fmt: skip
def test_chunks_of_any_size_give_the_numbers_of_the_fused_kernel(
    batch: int, heads: int, count: int, head_dim: int, chunk: int, scale: float
) -> None:
    query, key, value = vectors(batch, heads, count, head_dim, scale)
    found = chunked_attention(query, key, value, chunk)
    assert (found - fused_attention(query, key, value)).abs().max() <= 1e-5


def test_chunks_are_exact_in_float64_and_keep_the_dtype() -> None:
    query, key, value = (tensor.double() for tensor in vectors(1, 2, 33, 16))
    exact = torch.softmax(query @ key.transpose(-2, -1) / 4, dim=-1) @ value
    found = chunked_attention(query, key, value, 8)
    assert found.dtype == torch.float64
    assert (found - exact).abs().max() <= 1e-14
    assert chunked_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), 8).dtype == torch.bfloat16


def test_in_bf16_the_softmax_loses_nothing_more_than_the_rounding_of_its_input() -> None:
    query, key, value = (tensor.bfloat16() for tensor in vectors(1, 2, 512, 64))
    exact = fused_attention(query.float(), key.float(), value.float())
    errors = {
        name: float((attention(query, key, value).float() - exact).norm() / exact.norm())
        for name, attention in {"fused": fused_attention, "chunked": partial(chunked_attention, chunk=128)}.items()
    }
    assert errors["fused"] < 0.01
    assert errors["chunked"] < 0.01


def test_at_most_one_chunk_of_scores_is_alive() -> None:
    count, chunk = 512, 64
    query, key, value = vectors(1, 2, count, 8)
    with torch.no_grad(), LargestAlive(more_than=2 * count * chunk - 1) as memory:
        chunked_attention(query, key, value, chunk)
    assert memory.largest == 2 * chunk * count, "scores of [heads, chunk, tokens]"
    assert memory.most == 2, "the scores of a chunk, and their softmax"
    with torch.no_grad(), LargestAlive(more_than=0) as whole:
        chunked_attention(query, key, value, count)
    assert whole.largest == 2 * count * count, "or the measure would not see a whole matrix"


@pytest.mark.parametrize("family", FAMILIES)
class TestChoosingAttention:
    """Both families take the attention that a back end chooses."""

    def test_every_block_uses_it(self, family: str) -> None:
        module, seen = deepcopy(encoder(family).module), []

        def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            seen.append((query.shape, key.shape, value.shape))
            return fused_attention(query, key, value)

        module.use_attention(spy)
        module(torch.zeros(2, 1, 16, 64, 64))
        tokens = FAMILIES[family].token_count
        assert seen == [((2, 3, tokens, 16),) * 3] * 2

    def test_chunks_change_nothing_that_counts(self, family: str) -> None:
        original = encoder(family)
        module = deepcopy(original.module)
        module.use_attention(partial(chunked_attention, chunk=24))
        batch = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 1, 16, 64, 64)).astype(np.float32))
        for layer, tokens in module(batch, ("1", "last")).items():
            assert (tokens - original.module(batch, (layer,))[layer]).abs().max() <= 1e-5

    def test_a_copy_keeps_it_and_the_original_its_own(self, family: str) -> None:
        original = encoder(family).module
        changed = deepcopy(original)
        changed.use_attention(partial(chunked_attention, chunk=5))
        again = deepcopy(changed)
        attends = [
            [part.attend for part in module.modules() if hasattr(part, "attend")] for module in (original, again)
        ]
        assert attends[0] == [fused_attention] * 2
        assert [attend.keywords for attend in attends[1]] == [{"chunk": 5}] * 2
        assert changed.state_dict().keys() == original.state_dict().keys()

    @pytest.mark.parametrize("chunk", [None, 24])
    def test_bf16_pooled_vectors_point_the_same_way(self, family: str, chunk: int | None) -> None:
        class Chunked(CpuBackend):
            def prepare(self, module: Any) -> Any:
                prepared = super().prepare(module)
                if chunk is not None:
                    prepared.use_attention(partial(chunked_attention, chunk=chunk))
                return prepared

        batch = np.random.default_rng(3).normal(size=(2, 1, 16, 64, 64)).astype(np.float32)
        wishes = {"layers": ("1", "last"), "pools": ("mean", "max", "std"), "batch_size": 2}
        fp32 = BatchEncoder(encoder(family), CpuBackend("fp32"), **wishes).encode(batch).pooled
        bf16 = BatchEncoder(encoder(family), Chunked("bf16"), **wishes).encode(batch).pooled
        cosine = (fp32 * bf16).sum(-1) / np.linalg.norm(fp32, axis=-1) / np.linalg.norm(bf16, axis=-1)
        assert cosine.min() >= 0.999
