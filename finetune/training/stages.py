"""The stages: which weights each one may change, and how fast."""

from collections.abc import Iterator
from math import cos, pi
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from embeddings_store.errors import UsageError
from extract.encoder.module import EncoderModule
from finetune.model.lora import insert_lora
from finetune.model.network import VolumeClassifier
from finetune.recipe.config import DecayedStage, EncoderStage, FinetuneConfig, LastStage, LoraStage, StageConfig


def require_blocks(config: FinetuneConfig, stages: tuple[str, ...], depth: int) -> None:
    """Refuse to train more last blocks than there are, before anything is read."""
    if "last" in stages and config.stages.last.blocks > depth:
        raise UsageError(
            f"stages.last.blocks: expected 1 to the encoder's {depth} blocks, got {config.stages.last.blocks}"
        )


def set_trainable(model: VolumeClassifier, stage: StageConfig, seed: int = 0) -> None:
    """Freeze the encoder but for what the stage may change; pooling and head learn in every stage."""
    model.requires_grad_(requires_grad=True)
    model.encoder.requires_grad_(requires_grad=False)
    if isinstance(stage, LoraStage):
        insert_lora(model.encoder, stage, seed)
    for part in _free_parts(model.encoder, stage):
        part.requires_grad_(requires_grad=True)


def _free_parts(encoder: EncoderModule, stage: StageConfig) -> list[nn.Module]:
    """Give nothing, the last blocks with the final norm, or the whole encoder; LoRA's own weights are free already."""
    depth = encoder.architecture.depth
    if isinstance(stage, LastStage):
        last = [f"blocks.{number}" for number in range(depth - stage.blocks, depth)]
        return [encoder.get_submodule(name) for name in (*last, "norm")]
    return [encoder] if isinstance(stage, DecayedStage) else []


def new_optimiser(model: VolumeClassifier, stage: StageConfig, *, compiled: bool = False) -> AdamW:
    """Make AdamW over everything that may change, in groups of one highest rate and one weight decay each.

    A group has "peak", its highest learning rate. Biases, norms, thresholds and the position table do not decay.
    compiled: rates and step counts are tensors on the device; as numbers they would make each step another program.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, weight in trainable_weights(model):
        peak = _peak_rate(model.encoder, name, stage)
        decay = stage.weight_decay if weight.ndim > 1 and not name.endswith("pos_embed") else 0.0
        group = groups.setdefault((peak, decay), {"params": [], "lr": peak, "peak": peak, "weight_decay": decay})
        group["params"].append(weight)
    if compiled:
        for group in groups.values():
            group["lr"] = torch.tensor(group["peak"]).to(group["params"][0].device)
    return AdamW(list(groups.values()), capturable=compiled)


def trainable_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Give what may change, by name, in a fixed order."""
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


def _peak_rate(encoder: EncoderModule, name: str, stage: StageConfig) -> float:
    """Give the highest rate of one weight: the head's, or the encoder's after the decay of its depth."""
    if not name.startswith("encoder.") or not isinstance(stage, EncoderStage):
        return stage.learning_rate
    decay = stage.layer_decay if isinstance(stage, DecayedStage) else 1.0
    return stage.encoder_learning_rate * decay ** _layers_above(encoder, name.removeprefix("encoder."))


def _layers_above(encoder: EncoderModule, name: str) -> int:
    """Count the blocks above a weight: 0 in the last block and the final norm, the depth in the embedding."""
    depth = encoder.architecture.depth
    if name.startswith("blocks."):
        return depth - 1 - int(name.split(".")[1])
    return 0 if name.startswith("norm.") else depth


def schedule_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Give the share of the highest rate at a step (from 0): a linear warm-up, then half a cosine towards 0."""
    warm = round(warmup_fraction * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a share of its highest, which "share" says as a number."""
    for group in optimiser.param_groups:
        rate, before = group["peak"] * factor, group["lr"]
        group["share"] = factor
        group["lr"] = torch.tensor(rate).to(before.device) if isinstance(before, torch.Tensor) else rate


def reached_share(optimiser: torch.optim.Optimizer) -> float:
    """Give the share of the highest rates that set_rates set last."""
    return float(optimiser.param_groups[0]["share"])
