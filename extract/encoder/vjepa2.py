"""The public V-JEPA 2 encoder: a pre-norm vision transformer with rotary positions along time, rows and columns."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embeddings_store.errors import UsageError
from embeddings_store.space import Grid
from extract.encoder.architecture import LAST, Architecture
from extract.encoder.attention import SelfAttention
from extract.encoder.layout import VJEPA2
from extract.encoder.module import EncoderModule, run_blocks
from extract.encoder.vit3d import Mlp, PatchEmbedding

NORM_EPS = 1e-6
ROTARY_BASE = 10_000.0


class RotaryPositions(nn.Module):
    """Turns queries and keys by their token's place in the grid; nothing is learned, so any grid will do.

    A third of the head dimensions, rounded down to even, belongs to each axis; what is left over is not turned.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, grid: Grid, head_dim: int) -> None:
        super().__init__()
        angles = rotary_angles(grid, head_dim)
        # from_numpy: real numbers also while the module around is built without memory (see encoder.freeze).
        self.register_buffer("cosine", torch.from_numpy(np.cos(angles).astype(np.float32)), persistent=False)
        self.register_buffer("sine", torch.from_numpy(np.sin(angles).astype(np.float32)), persistent=False)

    def forward(self, vectors: Float[Tensor, "B heads N head_dim"]) -> Float[Tensor, "B heads N head_dim"]:
        """Turn: each neighbouring pair (a, b) gives (a, b) * cosine + (-b, a) * sine."""
        turned, rest = vectors.tensor_split((self.cosine.shape[-1],), dim=-1)
        crossed = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
        return torch.cat((turned * self.cosine + crossed * self.sine, rest), dim=-1)


def rotary_angles(grid: Grid, head_dim: int) -> Float64[np.ndarray, "N turned"]:
    """Give the angle of each token and turned dimension, 3 axes of 2 * frequencies dimensions, in radians.

    The list of frequencies is written twice one after the other, not each frequency twice for its pair: that is how
    the published weights were trained (source: the fixture vjepa2_hf).
    """
    count = head_dim // 3 // 2
    frequencies = ROTARY_BASE ** -(np.arange(count) / max(count, 1))
    places = np.indices(grid).reshape(3, -1).T
    return (places[:, :, None] * np.tile(frequencies, 2)).reshape(len(places), -1)


class RotaryAttention(SelfAttention):
    """Multi-head self-attention with separate projections and turned queries and keys."""

    def __init__(self, architecture: Architecture, rotary: RotaryPositions) -> None:
        super().__init__(architecture.heads)
        width = architecture.width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.rotary = rotary

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Attend over all tokens; heads are contiguous in the width."""
        query, key, value = (
            linear(tokens).reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = self.attend(self.rotary(query), self.rotary(key), value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Layer(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input."""

    def __init__(self, architecture: Architecture, rotary: RotaryPositions) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(architecture.width, eps=NORM_EPS)
        self.attention = RotaryAttention(architecture, rotary)
        self.norm2 = nn.LayerNorm(architecture.width, eps=NORM_EPS)
        self.mlp = Mlp(architecture)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Run one block."""
        attended: Tensor = tokens + self.attention(self.norm1(tokens))
        changed: Tensor = attended + self.mlp(self.norm2(attended))
        return changed


class Embeddings(nn.Module):
    """The patch embedding, one level down because the files name it so."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.patch_embeddings = PatchEmbedding(architecture, VJEPA2.channels)


class RotaryVisionTransformer(EncoderModule):
    """The encoder of the fixture vjepa2_hf; its state dict has Hugging Face's names without ``encoder.``.

    Frames are the B-scans; a patch is a tubelet of frames. Grey volumes are repeated to three channels; volumes of
    three channels [B, 3, D, H, W] are taken as they are.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        rotary = RotaryPositions(architecture.grid, architecture.width // architecture.heads)
        self.embeddings = Embeddings(architecture)
        self.layer = nn.ModuleList(Layer(architecture, rotary) for _ in range(architecture.depth))
        self.layernorm = nn.LayerNorm(architecture.width, eps=NORM_EPS)

    def forward(
        self, volumes: Float[Tensor, "B channels D H W"], layers: Sequence[str] = (LAST,)
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """See EncoderModule.forward."""
        self.require_input(volumes, layers)
        tokens = self.embeddings.patch_embeddings(_three_channels(volumes))
        return run_blocks(tokens, self.layer, self.layernorm, layers)


def _three_channels(volumes: Float[Tensor, "B channels D H W"]) -> Float[Tensor, "B 3 D H W"]:
    if volumes.shape[1] not in (1, VJEPA2.channels):
        raise UsageError(
            f"encoder input: expected 1 (grey) or {VJEPA2.channels} channels, got {volumes.shape[1]}; "
            "give volumes of one grey channel"
        )
    return volumes.expand(-1, VJEPA2.channels, -1, -1, -1)
