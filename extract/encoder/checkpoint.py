"""From a checkpoint to a frozen encoder: strictly, on the CPU, and without running anything in the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.grid import Grid
from extract.encoder.canonical import pack, place
from extract.encoder.claims import Claims
from extract.encoder.encoder import Encoder, freeze, weights_digest
from extract.encoder.families import FAMILIES
from extract.encoder.family import Family
from extract.encoder.geometry import Wish, trained_architecture, wanted_architecture
from extract.encoder.positions import is_sincos, sincos_grid
from extract.encoder.selection import (
    OWN_TUBELET,
    PATCH,
    FileNames,
    choose_family,
    read_names,
    require_complete,
    select_encoder,
)
from extract.encoder.weight_file import WeightFile, open_weight_file
from extract.errors import CheckpointError


def load_checkpoint(
    path: Path,
    *,
    family: str | None = None,
    heads: int | None = None,
    image_size: Grid | None = None,
    interpolate: bool = False,
    which: str | None = None,
    slices: int | None = None,
) -> Encoder:
    """Load an encoder from a .pt of torch.save, a .safetensors file, or a Hugging Face folder.

    family: None takes what the file states, or the only family whose signature fits. heads, image_size (voxels D, H,
    W): what the file does not say itself; where it does, both must agree, except that ``interpolate`` carries the
    positions of vjepa3d and vjepa2 to another image size; the other families do so as their own code does.
    slices: how many frames a family of single B-scans sees, where image_size does not say.
    which: None (the encoder that the family's own code reads), "context", "target", or a top key of the file.
    Every refusal is a CheckpointError; the outcomes are those of the fixture vjepa3d_nested.
    """
    wish = Wish(heads, image_size, interpolate, slices)
    with open_weight_file(path) as file:
        names = read_names(file)
        kind = choose_family(names, family)
        if _is_export(file.claims, kind):
            return _load_export(file, kind, wish)
        chosen = select_encoder(names, kind, which)
        require_complete(names, chosen, kind)
        own = chosen.own
        _refuse_grey_video(file, own, kind)
        table_grid = _table_grid(names, file, kind, own)
        shapes = {name: file.shapes[one] for name, one in own.items()}
        trained = trained_architecture(shapes, kind, file.claims, wish, table_grid, file.source)
        wanted = wanted_architecture(trained, wish, file.source)
        weights = pack({name: _read_float32(file, one, chosen.called(name)) for name, one in own.items()}, kind)
        source, facts, claims = file.source, dict[str, Any](file.facts), file.claims
    if claims.weights_sha256 is not None:
        _require_digest(kind.file_form(weights), claims.weights_sha256, source)
    before = table_grid or (trained.grid if kind.positions == "table_3d" else None)
    if wanted.grid != trained.grid:
        facts["interpolated_from"] = list(trained.image_size)
    return freeze(wanted, place(weights, wanted, before, source), source, facts)


def _is_export(claims: Claims, kind: Family) -> bool:
    """Tell an export of ours, whose tensors are those of the module, from a file in the family's own layout."""
    return claims.weights_sha256 is not None and not kind.asks


def _load_export(file: WeightFile, kind: Family, wish: Wish) -> Encoder:
    """Load what doctor --export wrote: complete, at one image size."""
    source, size = file.source, file.claims.image_size
    if PATCH not in file.shapes or size is None:
        raise CheckpointError(f"{source}: expected an export of a {kind.name} encoder, got other tensors; export again")
    if wish.image_size not in (None, size):
        raise CheckpointError(
            f"{source} was exported at image size {','.join(map(str, size))}: leave --image-size out, or load the "
            "official file"
        )
    given = Wish(wish.heads, size)
    architecture = trained_architecture(file.shapes, kind, file.claims, given, None, source)
    expected = architecture.tensor_shapes
    if wrong := [name for name in {*expected, *file.shapes} if expected.get(name) != file.shapes.get(name)]:
        raise CheckpointError(f"{source}: tensor {min(wrong)} is missing, unexpected or of another shape; export again")
    weights = {name: _read_float32(file, name, name) for name in file.shapes}
    _require_digest(weights, file.claims.weights_sha256 or "", source)
    return freeze(architecture, weights, source, dict(file.facts))


def _table_grid(names: FileNames, file: WeightFile, kind: Family, own: Mapping[str, str]) -> Grid | None:
    """Find the grid of V-JEPA 1's fixed table, and refuse to take one family for the other.

    Nothing in the names tells V-JEPA 1 from 2. The table does: V-JEPA 1 adds it, and it never learns, so it is exactly
    the sines and cosines of its grid; a V-JEPA 2 file with such a table is believed only at a published size.
    """
    source = file.source
    if kind.positions == "sincos_3d":
        grid = sincos_grid(_read_float32(file, own["pos_embed"], "pos_embed"))
        if grid is None or (set(file.shapes[own["pos_embed"]][1:2]) & FAMILIES["vjepa2"].published_rows):
            raise CheckpointError(
                f"{source} is no vjepa1 file: expected its fixed table of sines and cosines in pos_embed, got other "
                "numbers, which V-JEPA 2 does not use; say --encoder vjepa2"
            )
        return grid
    unused = [one for name, one in names.unwrapped.items() if name.endswith("pos_embed")]
    if kind.name == "vjepa2" and unused and "predictor" not in unused[0]:
        rows = file.shapes[unused[0]]
        known = len(rows) == 3 and rows[1] in kind.published_rows
        is_other = len(rows) == 3 and rows[1] in FAMILIES["vjepa1"].published_rows
        if is_other or (
            len(rows) == 3 and not known and sincos_grid(_read_float32(file, unused[0], "pos_embed")) is not None
        ):
            raise CheckpointError(
                f"{source} is no vjepa2 file: its pos_embed is the fixed table that V-JEPA 1 adds to the patches "
                f"({rows[1]} places); say --encoder vjepa1"
            )
    return None


def _refuse_grey_video(file: WeightFile, own: Mapping[str, str], kind: Family) -> None:
    """Refuse a V-JEPA file whose patch embedding was made grey: equal names, other arithmetic.

    The trainer's files say their patch, and so do exports; one that does not, with the tubelets of V-JEPA, is not one
    of them. Nor is one whose table is sines and cosines: the trainer's is learned.
    """
    if kind.positions != "table_3d" or file.claims.patch is not None:
        return
    tubelet = file.shapes[own[PATCH]][2]
    if tubelet == OWN_TUBELET or is_sincos(_read_float32(file, own["pos_embed"], "pos_embed")):
        raise CheckpointError(
            f"{file.source} is no {kind.name} file: patches of {tubelet} frames or a fixed position table, and no "
            "config that says so, are those of a V-JEPA video encoder made grey, whose arithmetic is another one; use "
            "the official file with --encoder vjepa1 or --encoder vjepa2"
        )


def _require_digest(weights: Mapping[str, Tensor], claimed: str, source: str) -> None:
    """Compare with the digest that our own export wrote: .safetensors has no checksums of its own."""
    if claimed != (found := weights_digest(weights)):
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
