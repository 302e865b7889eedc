"""How each family names its tensors, and the shapes that follow from the numbers of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from embeddings_store.space import Grid


@dataclass(frozen=True, slots=True)
class Layout:
    """The names in the state dict of one family; all families are pre-norm vision transformers over 3D patches.

    channels: of the patch embedding. patch, blocks, positions, final_norm: names; positions is None where nothing is
    learned. attention: linear layers of a block, and how many widths each gives out. prefixes: where a file keeps the
    encoder that is used ("context"), and another one ("target"). preset: the preprocessing that it was trained with.
    """

    family: str
    channels: int
    patch: str
    positions: str | None
    blocks: str
    attention: Mapping[str, int]
    final_norm: str
    prefixes: Mapping[str, str]
    preset: str


VJEPA3D = Layout(
    family="vjepa3d",
    channels=1,
    patch="patch_embed.proj",
    positions="pos_embed",
    blocks="blocks",
    attention=MappingProxyType({"attn.qkv": 3, "attn.proj": 1}),
    final_norm="norm",
    prefixes=MappingProxyType({"context": "context_encoder.", "target": "target_encoder.encoder."}),
    preset="pretrain",
)
"""The project's own encoders (source: MODEL.md, section 1)."""

VJEPA2 = Layout(
    family="vjepa2",
    channels=3,
    patch="embeddings.patch_embeddings.proj",
    positions=None,
    blocks="layer",
    attention=MappingProxyType({"attention.query": 1, "attention.key": 1, "attention.value": 1, "attention.proj": 1}),
    final_norm="layernorm",
    prefixes=MappingProxyType({"context": "encoder."}),
    preset="vjepa2",
)
"""The public V-JEPA 2 encoders as Hugging Face stores them (source: the fixture vjepa2_hf)."""

LAYOUTS: dict[str, Layout] = {layout.family: layout for layout in (VJEPA3D, VJEPA2)}


def tensor_shapes(
    layout: Layout, token_count: int, patch: Grid, width: int, depth: int, mlp_width: int
) -> dict[str, tuple[int, ...]]:
    """Give the state dict of an encoder as names and shapes; patch in voxels (D, H, W)."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{layout.patch}.weight": (width, layout.channels, *patch),
        f"{layout.patch}.bias": (width,),
    }
    if layout.positions is not None:
        shapes[layout.positions] = (1, token_count, width)
    linears = {name: (widths * width, width) for name, widths in layout.attention.items()}
    linears |= {"mlp.fc1": (mlp_width, width), "mlp.fc2": (width, mlp_width)}
    norms = [f"{layout.blocks}.{block}.{norm}" for block in range(depth) for norm in ("norm1", "norm2")]
    for norm in [*norms, layout.final_norm]:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for block in range(depth):
        for name, (rows, columns) in linears.items():
            linear = f"{layout.blocks}.{block}.{name}"
            shapes |= {f"{linear}.weight": (rows, columns), f"{linear}.bias": (rows,)}
    return shapes
