"""The one arithmetic of all families: a pre-norm vision transformer over patches of volumes or of slices."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from extract.encoder.architecture import LAST, Architecture
from extract.encoder.attention import SelfAttention
from extract.encoder.module import EncoderModule, prefix_of, run_blocks
from extract.encoder.rotary import RotaryPositions

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}

SLICES_AT_ONCE = 8
"""Slices of a 2D encoder that go through together: enough to keep a core busy, and what bounds its memory."""


class PatchEmbedding(nn.Module):
    """Non-overlapping 3D patches through one linear layer that keeps the weights of a Conv3d.

    Written as reshape + linear because the weight gradient of a Conv3d does not compile on TPU in reasonable time.
    """

    def __init__(self, architecture: Architecture, grid: Grid) -> None:
        super().__init__()
        self.patch, self.grid = architecture.patch, grid
        channels = architecture.kind.channels
        self.proj = nn.Conv3d(channels, architecture.width, architecture.patch, architecture.patch)

    def forward(self, volumes: Float[Tensor, "B channels D H W"]) -> Float[Tensor, "B N C"]:
        """Cut and project; tokens are row-major: depth slowest, then height, then width."""
        sides = [size for pair in zip(self.grid, self.patch, strict=True) for size in pair]
        cubes = volumes.reshape(*volumes.shape[:2], *sides).permute(0, 2, 4, 6, 1, 3, 5, 7)
        flat = cubes.flatten(4).flatten(1, 3)
        return functional.linear(flat, self.proj.weight.flatten(1), self.proj.bias)


class PackedAttention(SelfAttention):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, architecture: Architecture, rotary: RotaryPositions | None) -> None:
        super().__init__(architecture.heads)
        self.qkv = nn.Linear(architecture.width, 3 * architecture.width)
        self.proj = nn.Linear(architecture.width, architecture.width)
        self.rotary = rotary

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Attend over all tokens; the packed projection is [q | k | v], heads contiguous in each."""
        batch, count, width = tokens.shape
        packed = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        mixed = self.attend(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class Mlp(nn.Module):
    """Two linear layers with the family's GELU between them."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.fc1 = nn.Linear(architecture.width, architecture.mlp_width)
        self.fc2 = nn.Linear(architecture.mlp_width, architecture.width)
        self.activation = ACTIVATIONS[architecture.kind.activation]

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Apply to each token alone."""
        changed: Tensor = self.fc2(self.activation(self.fc1(tokens)))
        return changed


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input.

    branch_only: give out what the MLP says alone, as the last block of OCTCube does.
    """

    def __init__(self, architecture: Architecture, rotary: RotaryPositions | None, *, branch_only: bool) -> None:
        super().__init__()
        eps = architecture.kind.eps
        self.norm1 = nn.LayerNorm(architecture.width, eps=eps)
        self.attn = PackedAttention(architecture, rotary)
        self.norm2 = nn.LayerNorm(architecture.width, eps=eps)
        self.mlp = Mlp(architecture)
        self.branch_only = branch_only

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Run one block."""
        attended: Tensor = tokens + self.attn(self.norm1(tokens))
        branch: Tensor = self.mlp(self.norm2(attended))
        return branch if self.branch_only else attended + branch


class Transformer(EncoderModule):
    """The encoder of any family, with canonical names; those of vjepa3d are the names of the trainer's own files.

    Prefix tokens (class, registers, global) stand in front of the patch tokens, which they do not depend on: attention
    does not know an order. Source of the numbers: the fixtures, to which every block is compared.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        kind, width, prefix = architecture.kind, architecture.width, architecture.prefix
        grid, rotary = architecture.pass_grid, None
        self.patch_embed = PatchEmbedding(architecture, grid)
        if prefix:
            self.prefix = nn.Parameter(torch.zeros(1, prefix, width))
        if kind.has_table:
            self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1] * grid[2], width))
        else:
            rotary = RotaryPositions(kind.positions, grid, width // architecture.heads, prefix)
        last = architecture.depth - 1 if kind.end == "branch" else None
        self.blocks = nn.ModuleList(
            Block(architecture, rotary, branch_only=number == last) for number in range(architecture.depth)
        )
        self.norm = nn.Identity() if kind.end == "none" else nn.LayerNorm(width, eps=kind.eps)

    def forward(
        self, volumes: Float[Tensor, "B channels D H W"], layers: Sequence[str] = (LAST,)
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """See EncoderModule.forward."""
        self.require_input(volumes, layers)
        volumes = self._with_channels(volumes)
        if not self.architecture.kind.slices:
            return self._split(self._run(volumes, layers), len(volumes))
        slices = volumes.transpose(1, 2).flatten(0, 1)[:, :, None]
        starts = range(0, len(slices), SLICES_AT_ONCE)
        chunks = [self._run(slices[at : at + SLICES_AT_ONCE], layers) for at in starts]
        return self._split({name: torch.cat([chunk[name] for chunk in chunks]) for name in layers}, len(volumes))

    def _run(self, volumes: Float[Tensor, "B channels D H W"], layers: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.patch_embed(volumes)
        if self.architecture.kind.has_table:
            tokens = tokens + self.pos_embed
        if self.architecture.prefix:
            tokens = torch.cat((self.prefix.expand(len(tokens), -1, -1), tokens), dim=1)
        return run_blocks(tokens, self.blocks, self.norm, layers, norm_all=self.architecture.kind.end == "every")

    def _split(self, found: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
        """Part prefix from patch tokens, and put the slices of a volume together again."""
        prefix, width = self.architecture.prefix, self.architecture.width
        parted = {name: tokens[:, prefix:].reshape(batch, -1, width) for name, tokens in found.items()}
        if prefix:
            parted |= {prefix_of(name): tokens[:, :prefix].reshape(batch, -1, width) for name, tokens in found.items()}
        return parted

    def _with_channels(self, volumes: Float[Tensor, "B channels D H W"]) -> Float[Tensor, "B own D H W"]:
        """Repeat a grey volume where the family wants colour."""
        own, came = self.architecture.kind.channels, volumes.shape[1]
        if came == own:
            return volumes
        if came != 1:
            wanted = "1 channel (grey)" if own == 1 else f"1 (grey) or {own} channels"
            raise UsageError(f"encoder input: expected {wanted}, got {came}; give volumes of one grey channel")
        return volumes.expand(-1, own, -1, -1, -1)
