"""The three stages: which weights each one may change, and how fast."""

from collections.abc import Sequence
from math import cos, pi

from torch import nn
from torch.optim import AdamW

from embeddings_store.errors import UsageError
from extract.encoder.layout import LAYOUTS
from extract.encoder.module import EncoderModule
from finetune.config import STAGES, StageConfig


def parse_stages(text: str) -> tuple[str, ...]:
    """Read "head,last,all", or a part of it in that order; else UsageError."""
    names = tuple(name.strip() for name in text.split(","))
    if names != tuple(stage for stage in STAGES if stage in names):
        raise UsageError(f"--stages: expected some of {','.join(STAGES)}, in this order and each once, got {text!r}")
    return names


def trainable_parts(encoder: EncoderModule, stage: str, blocks: int) -> list[nn.Module]:
    """Give what a stage may change of the encoder: nothing, its last blocks with the final norm, or all of it."""
    layout, depth = LAYOUTS[encoder.architecture.family], encoder.architecture.depth
    last = [f"{layout.blocks}.{number}" for number in range(depth - blocks, depth)]
    parts: dict[str, list[nn.Module]] = {
        "head": [],
        "last": [encoder.get_submodule(name) for name in (*last, layout.final_norm)],
        "all": [encoder],
    }
    return parts[stage]


def set_trainable(encoder: EncoderModule, stage: str, blocks: int) -> None:
    """Freeze the encoder but for what the stage may change; the head learns in every stage."""
    encoder.requires_grad_(requires_grad=False)
    for part in trainable_parts(encoder, stage, blocks):
        part.requires_grad_(requires_grad=True)


def new_optimiser(modules: Sequence[nn.Module], stage: StageConfig) -> AdamW:
    """Make AdamW over everything that may change; biases, norms and the position table do not decay."""
    weights = {
        name: weight
        for number, module in enumerate(modules)
        for name, weight in module.named_parameters(prefix=str(number))
        if weight.requires_grad
    }
    decays = {name: weight.ndim > 1 and not name.endswith("pos_embed") for name, weight in weights.items()}
    groups = [
        {"params": [weight for name, weight in weights.items() if decays[name] == decay], "weight_decay": amount}
        for decay, amount in ((True, stage.weight_decay), (False, 0.0))
    ]
    return AdamW([group for group in groups if group["params"]], lr=stage.learning_rate)


def learning_rate_at(step: int, steps: int, stage: StageConfig) -> float:
    """Give the learning rate of a step (from 0): a linear warm-up, then half a cosine towards 0."""
    warm = round(stage.warmup_fraction * steps)
    if step < warm:
        return stage.learning_rate * (step + 1) / warm
    return stage.learning_rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))
