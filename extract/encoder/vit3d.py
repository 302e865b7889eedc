"""The vjepa3d encoder: a plain pre-norm 3D vision transformer over voxel patches."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from extract.encoder.architecture import LAST, Architecture
from extract.encoder.attention import SelfAttention
from extract.encoder.layout import VJEPA3D
from extract.encoder.module import EncoderModule, run_blocks

NORM_EPS = 1e-5


class PatchEmbedding(nn.Module):
    """Non-overlapping 3D patches through one linear layer that keeps the weights of a Conv3d.

    Written as reshape + linear because the weight gradient of a Conv3d does not compile on TPU in reasonable time.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.patch, self.grid = architecture.patch, architecture.grid
        self.proj = nn.Conv3d(channels, architecture.width, architecture.patch, architecture.patch)

    def forward(self, volumes: Float[Tensor, "B channels D H W"]) -> Float[Tensor, "B N C"]:
        """Cut and project; tokens are row-major: depth slowest, then height, then width."""
        sides = [size for pair in zip(self.grid, self.patch, strict=True) for size in pair]
        cubes = volumes.reshape(*volumes.shape[:2], *sides).permute(0, 2, 4, 6, 1, 3, 5, 7)
        flat = cubes.flatten(4).flatten(1, 3)
        return functional.linear(flat, self.proj.weight.flatten(1), self.proj.bias)


class PackedAttention(SelfAttention):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture.heads)
        self.qkv = nn.Linear(architecture.width, 3 * architecture.width)
        self.proj = nn.Linear(architecture.width, architecture.width)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Attend over all tokens; the packed projection is [q | k | v], heads contiguous in each."""
        batch, count, width = tokens.shape
        packed = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self.attend(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.fc1 = nn.Linear(architecture.width, architecture.mlp_width)
        self.fc2 = nn.Linear(architecture.mlp_width, architecture.width)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Apply to each token alone."""
        changed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return changed


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(architecture.width, eps=NORM_EPS)
        self.attn = PackedAttention(architecture)
        self.norm2 = nn.LayerNorm(architecture.width, eps=NORM_EPS)
        self.mlp = Mlp(architecture)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Run one block."""
        attended: Tensor = tokens + self.attn(self.norm1(tokens))
        changed: Tensor = attended + self.mlp(self.norm2(attended))
        return changed


class VisionTransformer3D(EncoderModule):
    """The encoder of MODEL.md, section 1; its state dict has the names of the trainer's files.

    Source of the numbers: the fixture vjepa3d_tiny, to which every block is compared in float32 and float64.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.patch_embed = PatchEmbedding(architecture, VJEPA3D.channels)
        self.pos_embed = nn.Parameter(torch.zeros(1, architecture.token_count, architecture.width))
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.depth))
        self.norm = nn.LayerNorm(architecture.width, eps=NORM_EPS)

    def forward(
        self, volumes: Float[Tensor, "B 1 D H W"], layers: Sequence[str] = (LAST,)
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """See EncoderModule.forward."""
        self.require_input(volumes, layers)
        return run_blocks(self.patch_embed(volumes) + self.pos_embed, self.blocks, self.norm, layers)
