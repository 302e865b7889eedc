"""The graph of one training step of a stage of fine-tuning, for tpu_compile.py; and flash attention without a TPU.

As the recipe tpu-v4-32 trains: weights and their gradients in float32, the encoder's arithmetic in bf16, and the
activations inside a block are computed again in the backward pass instead of kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classify.features.standardise import Standardiser
from extract.device.select import open_device
from extract.device.xla_attention import flash_attention
from extract.encoder.random_init import ARCHITECTURES, random_twin
from finetune.model.blocks import recomputing
from finetune.model.network import VolumeClassifier
from finetune.recipe.config import LastStage
from finetune.recipe.load import load_config
from finetune.training.stages import set_trainable
from finetune.training.step import weighted_loss

CLASSES = 4
RECIPE = "tpu-v4-32"
MOMENT_BYTES = 2 * 4
"""A parameter: AdamW keeps two moments, in float32."""


def trace_training_step(batch: int, depth: int, stage: str) -> tuple[bytes, int]:
    """Give the StableHLO of forward and backward, and the bytes of AdamW's moments; nothing is computed.

    The outputs are the loss and every gradient. The optimiser's own step is not in the graph.
    """
    import torch_xla
    from torch_xla.core import xla_model

    model = new_classifier(depth, stage)
    free = [weight for weight in model.parameters() if weight.requires_grad]
    moment_bytes = MOMENT_BYTES * sum(weight.numel() for weight in free)
    device = torch_xla.device()
    model = model.to(device)
    volumes = torch.zeros(batch, 1, *ARCHITECTURES["base"].image_size).to(device)
    group = torch.zeros(batch, dtype=torch.int64).to(device)
    label = functional.one_hot(torch.zeros(batch, dtype=torch.int64), CLASSES).float().to(device)
    with flash_traced_for_tpu(), recomputing(model.encoder, on=True, backend=open_device("xla")):
        loss = weighted_loss(model(volumes, group), label) / batch
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    bytecode: bytes = xla_model.get_stablehlo_bytecode([loss, *gradients])
    return bytecode, moment_bytes


def new_classifier(depth: int, stage: str) -> VolumeClassifier:
    """Make the full-size model as a stage trains it: bf16 arithmetic, flash attention."""
    encoder = random_twin(replace(ARCHITECTURES["base"], depth=depth), 0, "twin")
    shape = (1, encoder.architecture.width)
    model = VolumeClassifier(encoder, Standardiser((), np.zeros(shape), np.ones(shape)), CLASSES, seed=0, bf16=True)
    settings = load_config(RECIPE).stages.find(stage)
    if isinstance(settings, LastStage):
        settings = settings.model_copy(update={"blocks": min(settings.blocks, depth)})
    set_trainable(model, settings)
    model.encoder.use_attention(flash_attention)
    model.train()
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
