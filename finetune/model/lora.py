"""LoRA: the attention's linear layers learn a low-rank change beside frozen weights (Hu et al., ICLR 2022)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.encoder.module import EncoderModule
from finetune.model.network import whole
from finetune.recipe.config import LoraStage


class LoraLinear(nn.Module):
    """linear(x) + (alpha / rank) up(down(x)); ``up`` begins at 0, so nothing changes before the first step."""

    def __init__(self, linear: nn.Linear, stage: LoraStage, rng: np.random.Generator) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(requires_grad=False)
        drawn = rng.normal(0.0, linear.in_features**-0.5, (stage.rank, linear.in_features))
        self.down = nn.Parameter(torch.from_numpy(drawn.astype(np.float32)).to(linear.weight.device))
        self.up = nn.Parameter(torch.zeros(linear.out_features, stage.rank, device=linear.weight.device))
        self.scale = stage.alpha / stage.rank

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch out"]:
        """Apply both."""
        changed: Tensor = self.linear(x) + (x @ self.down.T) @ self.up.T * self.scale
        return changed

    def merged(self) -> Float[Tensor, "out C"]:
        """Give the one weight that computes the same."""
        return self.linear.weight + self.scale * self.up @ self.down


def insert_lora(encoder: EncoderModule, stage: LoraStage, seed: int) -> None:
    """Wrap every linear layer of every attention; the same seed gives the same first weights."""
    rng = np.random.default_rng([seed, 7])
    for block in range(encoder.architecture.depth):
        for name in ("attn.qkv", "attn.proj"):
            path, _, own = f"blocks.{block}.{name}".rpartition(".")
            parent = encoder.get_submodule(path)
            setattr(parent, own, LoraLinear(parent.get_submodule(own), stage, rng))  # type: ignore[arg-type]  # a Linear


def remove_lora(encoder: EncoderModule) -> None:
    """Put the plain layers back, with the changes merged into their weights."""
    for name, part in list(encoder.named_modules()):
        if isinstance(part, LoraLinear):
            path, _, own = name.rpartition(".")
            with torch.no_grad():
                part.linear.weight.copy_(part.merged())
            setattr(encoder.get_submodule(path), own, part.linear)


def plain_weights(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """Copy a model's state, whole, under the names that it has without LoRA, the changes merged."""
    wrapped = {name: part for name, part in model.named_modules() if isinstance(part, LoraLinear)}
    own = {f"{name}.{part}" for name in wrapped for part in ("up", "down")}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in own:
            continue
        owner = next((found for found in wrapped if name.startswith(f"{found}.linear.")), None)
        plain = name if owner is None else name.replace(f"{owner}.linear.", f"{owner}.")
        is_weight = owner is not None and name.endswith(".weight")
        state[plain] = whole(wrapped[owner].merged() if is_weight and owner else tensor).detach().clone()
    return state
