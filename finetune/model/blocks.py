"""What is done to the blocks of an encoder for the time of a stage, without touching their names or weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.device.backend import Backend
from extract.encoder.attention import SelfAttention
from extract.encoder.module import EncoderModule


def blocks_of(encoder: EncoderModule) -> list[nn.Module]:
    """Give the blocks, from the first."""
    return list(encoder.get_submodule("blocks").children())


@contextmanager
def dropping_paths(encoder: EncoderModule, rate: float) -> Iterator[None]:
    """Leave out the branches of blocks at random while training: stochastic depth (Huang et al., ECCV 2016).

    rate: of the last block; it grows linearly from 0 at the first. Each volume and branch is drawn alone.
    """
    handles = []
    blocks = blocks_of(encoder)
    for number, block in enumerate(blocks):
        share = rate * number / max(1, len(blocks) - 1)
        branches = [part for part in block.children() if isinstance(part, SelfAttention)]
        for branch in [*branches, block.get_submodule("mlp")] if share > 0 else ():
            handles.append(branch.register_forward_hook(partial(_drop, share)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drop(share: float, branch: nn.Module, _: Any, output: Float[Tensor, "b N C"]) -> Float[Tensor, "b N C"]:
    if not branch.training:
        return output
    kept = torch.rand(len(output), 1, 1, device=output.device) >= share
    return output * kept.to(output.dtype) / (1 - share)


@contextmanager
def recomputing(encoder: EncoderModule, *, on: bool, backend: Backend) -> Iterator[None]:
    """Keep no activations inside blocks: they are computed again in the backward pass (gradient checkpointing)."""
    if not on:
        yield
        return
    blocks = blocks_of(encoder)
    for block in blocks:
        block.forward = partial(_forward_again, backend, block.forward, block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _forward_again(
    backend: Backend,
    forward: Callable[[Tensor], Tensor],
    block: nn.Module,
    tokens: Float[Tensor, "b N C"],
) -> Float[Tensor, "b N C"]:
    """Recompute where there will be a backward pass through the block."""
    learns = any(weight.requires_grad for weight in block.parameters())
    if not torch.is_grad_enabled() or not (learns or tokens.requires_grad):
        return forward(tokens)
    # torch_xla's checkpoint gives no gradients at all where the tokens of frozen blocks come in without any.
    entered = tokens if tokens.requires_grad else tokens.detach().requires_grad_()
    return backend.computed_again(forward, entered)
