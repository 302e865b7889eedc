"""The learned position table, carried to another grid."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from embeddings_store.space import Grid


def interpolate_positions(table: Float[Tensor, "1 N C"], grid: Grid, target: Grid) -> Float[Tensor, "1 M C"]:
    """Resize a position table trilinearly on its 3D grid, half-pixel centres (align_corners False).

    Source: the fixture vjepa3d_nested (interp_pos_embed.npy); the original model only takes its own size.
    """
    width = table.shape[2]
    volume = table.reshape(1, *grid, width).permute(0, 4, 1, 2, 3)
    resized = functional.interpolate(volume, size=target, mode="trilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).contiguous()
