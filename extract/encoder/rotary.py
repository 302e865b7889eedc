"""Positions that turn queries and keys by a token's place in the grid; nothing is learned, so any grid will do."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from embeddings_store.grid import Grid
from extract.encoder.family import Positions

VIDEO_BASE, AXIAL_BASE = 10_000.0, 100.0
PRETRAINED_GRID = 16
"""Rows and columns of V-JEPA 2.1 are rescaled to the places 0..15 of its first training (source: vjepa21_pt)."""


class RotaryPositions(nn.Module):
    """Turns what comes after the prefix tokens, which have no place.

    Video families pair neighbouring dimensions, and of each head what is left over is not turned; DINOv3 pairs the two
    halves of the head.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, positions: Positions, grid: Grid, head_dim: int, prefix: int = 0) -> None:
        super().__init__()
        angles = axial_angles(grid, head_dim) if positions == "axial" else video_angles(positions, grid, head_dim)
        self.halves = positions == "axial"
        still = np.zeros((prefix, angles.shape[1]))
        placed = np.concatenate([still, angles])
        # from_numpy: real numbers also while the module around is built without memory (see encoder.freeze).
        self.register_buffer("cosine", torch.from_numpy(np.cos(placed).astype(np.float32)), persistent=False)
        self.register_buffer("sine", torch.from_numpy(np.sin(placed).astype(np.float32)), persistent=False)

    def forward(self, vectors: Float[Tensor, "B heads N head_dim"]) -> Float[Tensor, "B heads N head_dim"]:
        """Turn: each pair (a, b) gives (a, b) * cosine + (-b, a) * sine."""
        turned, rest = vectors.tensor_split((self.cosine.shape[-1],), dim=-1)
        if self.halves:
            first, second = turned.chunk(2, dim=-1)
            crossed = torch.cat((-second, first), dim=-1)
        else:
            crossed = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
        return torch.cat((turned * self.cosine + crossed * self.sine, rest), dim=-1)


def video_angles(positions: Positions, grid: Grid, head_dim: int) -> Float64[np.ndarray, "N turned"]:
    """Give the angle of each token and turned dimension, 3 axes of 2 * frequencies dimensions, in radians.

    A third of the head, rounded down to even, belongs to each axis. V-JEPA 2 writes the list of frequencies twice, one
    after the other, not each frequency twice for its pair: that is how the published weights were trained (source: the
    fixture vjepa2_hf). V-JEPA 2.1 repeats each, and rescales rows and columns (source: vjepa21_pt).
    """
    count = head_dim // 3 // 2
    frequencies = VIDEO_BASE ** -(np.arange(count) / max(count, 1))
    places = np.indices(grid).reshape(3, -1).T.astype(np.float64)
    if positions == "rotary_21":
        places[:, 1:] *= (PRETRAINED_GRID - 1) / np.maximum(np.array(grid[1:]) - 1, 1)
    doubled = np.repeat(frequencies, 2) if positions == "rotary_21" else np.tile(frequencies, 2)
    return (places[:, :, None] * doubled).reshape(len(places), -1)


def axial_angles(grid: Grid, head_dim: int) -> Float64[np.ndarray, "N head_dim"]:
    """Give DINOv3's angles of one frame: rows, then columns, as places from -1 to 1 (source: hf_slices)."""
    frequencies = AXIAL_BASE ** -np.arange(0, 1, 4 / head_dim)
    centres = [(np.arange(size) + 0.5) / size * 2 - 1 for size in grid[1:]]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = (2 * np.pi * places[:, :, None] * frequencies).reshape(len(places), -1)
    return np.tile(angles, 2)
