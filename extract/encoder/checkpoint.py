"""From a checkpoint to a frozen encoder: strictly, on the CPU, and without running anything in the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.space import Grid
from extract.encoder.encoder import Encoder, freeze, weights_digest
from extract.encoder.geometry import trained_architecture, wanted_architecture
from extract.encoder.layout import LAYOUTS, VJEPA3D, Layout
from extract.encoder.positions import interpolate_positions
from extract.encoder.selection import describe_contents, require_complete, select_encoder
from extract.encoder.weight_file import WeightFile, open_weight_file
from extract.encoder_options import Which
from extract.errors import CheckpointError


def load_checkpoint(
    path: Path,
    *,
    heads: int | None = None,
    image_size: Grid | None = None,
    interpolate: bool = False,
    which: Which = "context",
) -> Encoder:
    """Load an encoder from a .pt of torch.save, a .safetensors file, or a Hugging Face folder of V-JEPA 2.

    heads, image_size (voxels D, H, W): what the file does not say itself; where it does, both must agree, except that
    ``interpolate`` carries the positions from the file's image size to the caller's: a learned table is resized, rotary
    positions just go on. Every refusal is a CheckpointError; the outcomes are those of the fixture vjepa3d_nested.
    """
    with open_weight_file(path) as file:
        layout = _layout_of(file)
        seen = describe_contents(file.contents, file.shapes)
        names = select_encoder(file.shapes, layout, which, file.source, seen)
        shapes = {name: file.shapes[own] for name, own in names.items()}
        require_complete(shapes, layout, file.source, seen)
        trained = trained_architecture(shapes, layout, file.claims, heads, image_size, file.source)
        wanted = wanted_architecture(trained, image_size, interpolate, file.source)
        weights = {name: _read_float32(file, own, name) for name, own in names.items()}
        source, facts, claimed_digest = file.source, dict[str, Any](file.facts), file.claims.weights_sha256
    _require_digest(weights, claimed_digest, source)
    if wanted.grid != trained.grid:
        if layout.positions is not None:
            table = weights[layout.positions]
            weights[layout.positions] = interpolate_positions(table, trained.grid, wanted.grid)
        facts["interpolated_from"] = list(trained.image_size)
    return freeze(wanted, weights, source, facts)


def _layout_of(file: WeightFile) -> Layout:
    """Only our own export and a Hugging Face folder state a family; everything else is the trainer's."""
    family = file.claims.family or VJEPA3D.family
    if family not in LAYOUTS:
        raise CheckpointError(
            f"{file.source}: expected an encoder of family {' or '.join(LAYOUTS)}, got {family!r}; "
            "was it written by a newer octprobe?"
        )
    return LAYOUTS[family]


def _require_digest(weights: Mapping[str, Tensor], claimed: str | None, source: str) -> None:
    """Compare with the digest that our own export wrote: .safetensors has no checksums of its own."""
    if claimed is not None and claimed != (found := weights_digest(weights)):
        raise CheckpointError(
            f"{source} says its weights have the sha256 {claimed[:16]}..., but they have {found[:16]}...: "
            "the file is damaged, or was changed without its metadata; copy or export it again"
        )


def _read_float32(file: WeightFile, own_name: str, name: str) -> Float32[Tensor, "..."]:
    tensor = file.read(own_name)
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"{file.source}: tensor {name}: expected floating-point weights, got {tensor.dtype}; "
            "quantised weights are not read: use the original ones"
        )
    weights = tensor.to(torch.float32)
    # The extremes are NaN or infinite as soon as one number is, and cost no second copy of the tensor.
    if weights.numel() and not torch.isfinite(torch.stack(torch.aminmax(weights))).all():
        bad = int((~torch.isfinite(weights)).sum())
        raise CheckpointError(
            f"{file.source}: tensor {name}: expected finite numbers, got {bad} NaN or infinite of {weights.numel()}; "
            "this training diverged or the file is damaged: use another checkpoint"
        )
    return weights
