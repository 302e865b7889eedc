"""The peer of P1: the checkpoint's own kind of encoder, which holds the whole score matrix (MODEL.md, section 1)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from extract.encoder.architecture import Architecture

NORM_EPS = 1e-5


class ExplicitAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        packed = self.qkv(tokens).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = packed[0], packed[1], packed[2]
        scores = (query @ key.transpose(-2, -1)) * self.scale
        weights = scores.softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, count, width))


class ExplicitBlock(nn.Module):
    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = ExplicitAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, mlp_width), "fc2": nn.Linear(mlp_width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens))))


class ExplicitVit(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, width, architecture.patch, architecture.patch)})
        self.pos_embed = nn.Parameter(torch.empty(1, architecture.token_count, width))
        blocks = (ExplicitBlock(width, architecture.heads, architecture.mlp_width) for _ in range(architecture.depth))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, volumes: Tensor) -> Tensor:
        tokens = self.patch_embed["proj"](volumes).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def explicit_vit(architecture: Architecture, weights: Mapping[str, Tensor]) -> ExplicitVit:
    """Build the peer around the same tensors, without a copy."""
    with torch.device("meta"):
        module = ExplicitVit(architecture)
    module.load_state_dict(dict(weights), strict=True, assign=True)
    return module.eval().requires_grad_(requires_grad=False)
