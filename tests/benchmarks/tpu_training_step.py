"""The graph of one training step of fine-tuning's last stage, for tpu_compile.py; and flash attention without a TPU.

Everything learns: weights and their gradients in float32, arithmetic in bf16 by autocast, and the activations inside a
block are computed again in the backward pass instead of kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from classify.standardise import Standardiser
from extract.device.xla_attention import flash_attention
from extract.encoder.random_init import ARCHITECTURES, random_twin
from finetune.model import VolumeClassifier
from finetune.stages import set_trainable

CLASSES = 4
MOMENT_BYTES = 2 * 4
"""A parameter: AdamW keeps two moments, in float32."""


class Recomputed(nn.Module):
    """A block that keeps only its input for the backward pass; torch's own checkpoint fails on XLA 2.9."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        from torch_xla.utils.checkpoint import checkpoint

        changed: Tensor = checkpoint(self.block, tokens, use_reentrant=True)
        return changed


def trace_training_step(batch: int, depth: int) -> tuple[bytes, int]:
    """Give the StableHLO of forward and backward, and the bytes of AdamW's moments; nothing is computed.

    The outputs are the loss and every gradient. The optimiser's own step is not in the graph.
    """
    import torch_xla
    from torch_xla.core import xla_model

    model = new_classifier(depth)
    moment_bytes = MOMENT_BYTES * sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    device = torch_xla.device()
    model = model.to(device)
    volumes = torch.zeros(batch, 1, *ARCHITECTURES["base"].image_size).to(device)
    group, label = torch.zeros(2, batch, dtype=torch.int64).to(device).unbind(0)
    with flash_traced_for_tpu():
        with torch.autocast("xla", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(volumes, group), label)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    bytecode: bytes = xla_model.get_stablehlo_bytecode([loss, *gradients])
    return bytecode, moment_bytes


def new_classifier(depth: int) -> VolumeClassifier:
    """Make the full-size model that fine-tuning trains, with its last stage's weights free."""
    encoder = random_twin(replace(ARCHITECTURES["base"], depth=depth), 0, "twin")
    shape = (1, encoder.architecture.width)
    model = VolumeClassifier(encoder, Standardiser((), np.zeros(shape), np.ones(shape)), CLASSES, seed=0)
    set_trainable(model.encoder, "all", depth)
    model.encoder.use_attention(flash_attention)
    blocks = model.encoder.get_submodule("blocks").children()
    model.encoder.blocks = nn.ModuleList(Recomputed(block) for block in blocks)
    return model


@contextmanager
def flash_traced_for_tpu() -> Iterator[None]:
    """Let torch_xla's flash attention, forward and backward, trace its kernels though this machine has no TPU."""
    with patch("torch_xla.experimental.custom_kernel.trace_pallas", _trace_pallas):
        yield


def _trace_pallas(
    kernel: Callable[..., Any],
    *words: Any,
    static_argnums: Any = None,
    static_argnames: Any = None,
    use_cache: bool = False,
    **names: Any,
) -> tuple[str, list[Tensor]]:
    """Stand in for torch_xla's function of this name, which lowers for the machine's own platform only."""
    from torch_xla.experimental.custom_kernel import to_jax_shape_dtype_struct

    shapes = tuple(to_jax_shape_dtype_struct(word) if torch.is_tensor(word) else word for word in words)
    static = tuple(static_argnums or ()), tuple(static_argnames or ())
    return _payload(kernel, shapes, tuple(names.items()), *static), [word for word in words if torch.is_tensor(word)]


@cache
def _payload(
    kernel: Callable[..., Any],
    shapes: tuple[Any, ...],
    names: tuple[tuple[str, Any], ...],
    static_numbers: tuple[int, ...],
    static_names: tuple[str, ...],
) -> str:
    import jax
    from torch_xla.experimental.custom_kernel import _extract_backend_config

    traced = jax.jit(kernel, static_argnums=static_numbers, static_argnames=static_names).trace(*shapes, **dict(names))
    payload: str | None = _extract_backend_config(traced.lower(lowering_platforms=("tpu",)).compiler_ir())
    if payload is None:
        raise RuntimeError(f"{kernel.__name__}: expected a TPU kernel in its lowered form, got none")
    return payload
