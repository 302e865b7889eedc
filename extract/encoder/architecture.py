"""The numbers that define an encoder, and the tensors that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from extract.encoder.families import FAMILIES, OWN_FAMILIES, find_family
from extract.encoder.family import Family

LAST = "last"
"""The layer after the final norm; the others are block numbers from "1", before the final norm."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One encoder of a family: image_size and patch in voxels (D, H, W), width in channels, prefix tokens a pass.

    Raises UsageError on an unknown family, a patch that does not divide the image, or heads that do not divide the
    width.
    """

    family: str
    image_size: Grid
    patch: Grid
    width: int
    depth: int
    heads: int
    mlp_width: int
    prefix: int = 0

    def __post_init__(self) -> None:
        if find_family(self.family) is None:
            raise UsageError(f"encoder family {self.family!r}: expected one of {', '.join(FAMILIES)}")
        numbers = (*self.image_size, *self.patch, self.width, self.depth, self.heads, self.mlp_width)
        if min(numbers) < 1:
            raise UsageError(f"encoder: expected sizes and counts of at least 1, got {self}")
        if any(size % step for size, step in zip(self.image_size, self.patch, strict=True)):
            raise UsageError(
                f"image size {shape_text(self.image_size)}: expected multiples of the patch {shape_text(self.patch)}; "
                "choose another --image-size"
            )
        if self.width % self.heads:
            raise UsageError(
                f"{self.heads} heads: expected a number that divides the width {self.width}; correct --num-heads"
            )

    @property
    def kind(self) -> Family:
        """What the family fixes."""
        return (FAMILIES | OWN_FAMILIES)[self.family]

    @property
    def pass_grid(self) -> Grid:
        """Tokens of what goes through together: a volume, or one slice."""
        depth, height, width = self.grid
        return (1 if self.kind.slices else depth), height, width

    @property
    def grid(self) -> Grid:
        """Tokens along depth, height and width."""
        depth, height, width = (size // step for size, step in zip(self.image_size, self.patch, strict=True))
        return depth, height, width

    @property
    def token_count(self) -> int:
        """All tokens of one volume."""
        return prod(self.grid)

    @property
    def parameter_count(self) -> int:
        """All parameters, a learned position table included."""
        return sum(prod(shape) for shape in self.tensor_shapes.values())

    @property
    def flop_per_volume(self) -> int:
        """Floating-point operations of a forward pass of the blocks: 2 P N + 4 N^2 C for each of them, and each slice.

        P: weights of the block's linear layers, N: tokens of a pass with the prefix, C: the width.
        """
        passes = self.image_size[0] if self.kind.slices else 1
        tokens = prod(self.pass_grid) + self.prefix
        weights = 4 * self.width**2 + 2 * self.width * self.mlp_width
        return passes * self.depth * (2 * weights * tokens + 4 * tokens**2 * self.width)

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the state dict, by its canonical name, and its shape."""
        kind, width = self.kind, self.width
        shapes: dict[str, tuple[int, ...]] = {
            "patch_embed.proj.weight": (width, kind.channels, *self.patch),
            "patch_embed.proj.bias": (width,),
        }
        if self.prefix:
            shapes["prefix"] = (1, self.prefix, width)
        if kind.has_table:
            shapes["pos_embed"] = (1, prod(self.pass_grid), width)
        norms = () if kind.end == "none" else ("norm",)
        return shapes | block_shapes(width, self.depth, self.mlp_width, norms)

    def require_layers(self, layers: Sequence[str]) -> tuple[str, ...]:
        """Check layer names: at least one, none twice, each "1".."depth" or "last"; else UsageError."""
        known = [*(str(number) for number in range(1, self.depth + 1)), LAST]
        if unknown := [name for name in layers if name not in known]:
            raise UsageError(f"layer {unknown[0]!r}: expected a block from 1 to {self.depth} or {LAST!r}")
        if not layers or len(set(layers)) != len(layers):
            raise UsageError(f"layers {','.join(layers) or '(none)'}: expected at least one layer, and none twice")
        return tuple(layers)


def block_shapes(width: int, depth: int, mlp_width: int, norms: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Give names and shapes of all blocks, and of the norms after them."""
    linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linears |= {"mlp.fc1": (mlp_width, width), "mlp.fc2": (width, mlp_width)}
    shapes: dict[str, tuple[int, ...]] = {}
    for norm in [*(f"blocks.{block}.{norm}" for block in range(depth) for norm in ("norm1", "norm2")), *norms]:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for block in range(depth):
        for name, (rows, columns) in linears.items():
            shapes |= {f"blocks.{block}.{name}.weight": (rows, columns), f"blocks.{block}.{name}.bias": (rows,)}
    return shapes


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape for a message: 16x64x64."""
    return "x".join(str(size) for size in shape) or "scalar"
