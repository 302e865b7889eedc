"""Whether the weights of an encoder are more than independent draws, whatever they were drawn from."""

from math import sqrt

import torch
from jaxtyping import Float32
from torch import Tensor, nn

BEYOND_CHANCE = 1.25
"""Largest singular value, in units of what chance gives, below which a matrix looks like independent draws.

Chance gives sqrt(rows) + sqrt(columns) for rows of mean square 1 (Marchenko and Pastur 1967), up to a few per cent at
small widths; learning adds directions far above it (Martin and Mahoney, JMLR 2021).
"""

STEPS = 30
"""Of power iteration: an outlier of 1.25 is then found to within a few per cent, and never overestimated."""


def beyond_chance(module: nn.Module) -> float | None:
    """Give the largest singular value of all linear layers, in units of what independent draws give; None without any.

    Rows are brought to a mean square of 1, so what families start with makes no difference: truncated normal (V-JEPA,
    DINOv2, DINOv3, VisionFM; scaled by depth in V-JEPA), Xavier uniform (RETFound, OCTCube, MIRAGE, SigLIP), LayerScale
    of any value, which multiplies whole rows.
    """
    found = [_ratio(part.weight) for part in module.modules() if isinstance(part, nn.Linear)]
    return max(found, default=None)


@torch.no_grad()
def _ratio(weight: Float32[Tensor, "rows columns"]) -> float:
    rows, columns = weight.shape
    scale = weight.square().mean(1).sqrt().clamp_min(torch.finfo(weight.dtype).tiny).reciprocal()
    vector, length = torch.randn(columns, generator=torch.Generator().manual_seed(0)), 0.0
    for _ in range(STEPS):
        image = weight @ (vector / vector.norm().clamp_min(1e-30)) * scale
        length, vector = float(image.norm()), (image * scale) @ weight
    return length / (sqrt(rows) + sqrt(columns))
