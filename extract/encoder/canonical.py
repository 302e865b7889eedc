"""From a file's tensors to those of the one module: packed, folded and placed on the grid of the input."""

from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.grid import Grid
from extract.encoder.architecture import Architecture
from extract.encoder.family import Family
from extract.encoder.positions import (
    interpolate_positions,
    is_high_resolution,
    place_factorised,
    resize_2d,
    square_side,
)
from extract.errors import CheckpointError

Weights = dict[str, Float32[Tensor, "..."]]

PREFIXES = ("cls_token", "registers", "global_tokens")
"""Tensors whose rows become prefix tokens, in their order."""


def count_prefix(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the prefix tokens of a file."""
    return sum(shapes[name][1] for name in PREFIXES if name in shapes)


def pack(weights: Weights, kind: Family) -> Weights:
    """Join queries, keys and values, and take what scales a branch into the branch's last linear layer."""
    packed = dict(weights)
    for name in [name for name in weights if name.endswith((".attn.q.weight", ".attn.q.bias"))]:
        at, _, part = name.rpartition("q.")
        query, value = packed.pop(name), packed.pop(f"{at}v.{part}")
        key = packed.pop(f"{at}k.{part}") if part == "weight" or kind.key_bias else torch.zeros_like(query)
        packed[f"{at}qkv.{part}"] = torch.cat((query, key, value))
    for number, branch in (("1", "attn.proj"), ("2", "mlp.fc2")):
        for name in [name for name in weights if name.endswith(f".ls{number}")]:
            scale, at = packed.pop(name), name.removesuffix(f"ls{number}")
            packed[f"{at}{branch}.weight"] = packed[f"{at}{branch}.weight"] * scale[:, None]
            packed[f"{at}{branch}.bias"] = packed[f"{at}{branch}.bias"] * scale
    return packed


def place(weights: Weights, wanted: Architecture, trained: Grid | None, source: str) -> Weights:
    """Give the module's tensors: patch embedding, prefix tokens and positions of the wanted image size.

    trained: the grid of a 3D position table. Raises CheckpointError for a table of no square picture, and for a high
    resolution that the file has no patch embedding for.
    """
    kind, found = wanted.kind, dict(weights)
    _choose_patches(found, wanted, source)
    if kind.positions in ("table_3d", "sincos_3d"):
        if trained is not None and trained != wanted.grid:
            found["pos_embed"] = interpolate_positions(found["pos_embed"], trained, wanted.grid)
        return found
    prefix = [found.pop(name) for name in PREFIXES if name in found]
    if kind.positions == "factorised":
        prefix = [prefix[0] + found.pop("pos_embed_class")]
        spatial, temporal = found.pop("pos_embed_spatial"), found.pop("pos_embed_temporal")
        found["pos_embed"] = place_factorised(spatial, temporal, wanted.grid, kind)
    elif kind.has_table:
        table = _flat_table(found["pos_embed"])
        own = 1 if "cls_token" in weights else 0
        if own:
            prefix[0] = prefix[0] + table[:, :1]
        side = square_side(table.shape[1] - own, source, "pos_embed")
        found["pos_embed"] = resize_2d(table[:, own:], side, wanted.pass_grid, kind)
    if prefix:
        found["prefix"] = torch.cat(prefix, dim=1)
    return found


def table_rows(shapes: Mapping[str, tuple[int, ...]], kind: Family) -> int | None:
    """Count the places of a 2D table, without the class token's; None where the family has none."""
    if kind.positions == "factorised" or not kind.has_table or not kind.slices:
        return None
    shape = shapes["pos_embed"]
    if len(shape) == 4:
        return shape[2] * shape[3]
    return shape[-2] - (1 if "cls_token" in shapes else 0)


def _choose_patches(found: Weights, wanted: Architecture, source: str) -> None:
    """Take the patch embedding that suits the input, with the vector of its kind in its bias."""
    name, bias = "patch_embed.proj.weight", "patch_embed.proj.bias"
    rows = found["pos_embed_spatial"].shape[1] if "pos_embed_spatial" in found else None
    sharp = {one: found.pop(f"high_res_{one}", None) for one in (name, bias)}
    if rows is not None and is_high_resolution(rows, wanted.grid):
        if missing := [f"high_res_{one}" for one, tensor in sharp.items() if tensor is None]:
            size = "x".join(map(str, wanted.image_size))
            raise CheckpointError(
                f"{source}: image size {size} is the high resolution of {wanted.family}, with a patch embedding of "
                f"its own, but the tensor {missing[0]} is missing: choose a smaller --image-size, or a complete file"
            )
        found.update({one: tensor for one, tensor in sharp.items() if tensor is not None})
    image = {one: found.pop(one.replace("embed", "embed_img"), None) for one in (name, bias)}
    kinds = {one: found.pop(f"{one}_mod_embed", None) for one in ("img", "video")}
    is_image = wanted.patch[0] == 1
    if is_image:
        found.update({one: tensor for one, tensor in image.items() if tensor is not None})
    added = kinds["img" if is_image else "video"]
    if added is not None:
        found[bias] = found[bias] + added.flatten()
    if found[name].ndim == 4:
        found[name] = found[name][:, :, None].contiguous()


def _flat_table(table: Tensor) -> Float32[Tensor, "1 N C"]:
    """Bring a table to [1, N, C]: some files keep [N, C], or channels first."""
    if table.ndim == 2:
        return table[None]
    return table.flatten(2).transpose(1, 2).contiguous() if table.ndim == 4 else table
