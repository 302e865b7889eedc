"""What tensor shapes cannot tell: the head count and the grid, from the file or the caller, never guessed."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from embeddings_store.errors import UsageError
from embeddings_store.space import Grid
from extract.encoder.architecture import Architecture, shape_text
from extract.encoder.claims import Claims
from extract.encoder.layout import LAYOUTS, Layout
from extract.errors import CheckpointError


def trained_architecture(
    shapes: Mapping[str, tuple[int, ...]],
    layout: Layout,
    claims: Claims,
    heads: int | None,
    image_size: Grid | None,
    source: str,
) -> Architecture:
    """Join complete tensor shapes, the file's claims and the caller's word into the encoder as it was trained.

    image_size (voxels D, H, W) of the caller counts only where the file states none.
    Raises CheckpointError where something is unknown or two of the three contradict each other.
    """
    width, _, *sides = shapes[f"{layout.patch}.weight"]
    patch: Grid = (sides[0], sides[1], sides[2])
    depth = sum(name.endswith(".mlp.fc1.weight") for name in shapes)
    mlp_width = shapes[f"{layout.blocks}.0.mlp.fc1.weight"][0]
    _agree("patch_size", claims.patch, patch, source)
    _agree("width", claims.width, width, source)
    _agree("depth", claims.depth, depth, source)
    _agree("MLP width", claims.mlp_width, mlp_width, source)
    own_size = claims.image_size or image_size
    if own_size is None:
        raise CheckpointError(
            f"{source} does not say the image size, and many grids have as many tokens: "
            "say --image-size D,H,W (as in pretraining)"
        )
    head_count = _resolve_heads(claims.heads, heads, width, source)
    trained = _checked(
        source, lambda: Architecture(layout.family, own_size, patch, width, depth, head_count, mlp_width)
    )
    if layout.positions is not None:
        _require_rows(trained, layout.positions, shapes[layout.positions][1], claims, source)
    return trained


def wanted_architecture(trained: Architecture, image_size: Grid | None, interpolate: bool, source: str) -> Architecture:
    """Give the encoder that the caller wants: as trained, or (only when asked) for another image size."""
    if image_size is None or image_size == trained.image_size:
        return trained
    if not interpolate:
        learned = LAYOUTS[trained.family].positions is not None
        how = "resize the position table" if learned else "extend its rotary positions to that grid"
        raise CheckpointError(
            f"{source} was trained at image size {shape_text(trained.image_size)}, but {shape_text(image_size)} was "
            f"asked for: leave --image-size out, or say --interpolate to {how}"
        )
    return _checked(source, lambda: replace(trained, image_size=image_size))


def _resolve_heads(claimed: int | None, given: int | None, width: int, source: str) -> int:
    if claimed is not None and given is not None and claimed != given:
        raise CheckpointError(f"{source} says {claimed} heads, but {given} were asked for; leave --heads out")
    heads = claimed if claimed is not None else given
    if heads is None:
        raise CheckpointError(
            f"{source} does not say how many attention heads there are, and tensor shapes (width {width}) cannot tell: "
            "say --heads N (a wrong number gives wrong tokens without any error)"
        )
    return heads


def _require_rows(trained: Architecture, table: str, rows: int, claims: Claims, source: str) -> None:
    if trained.token_count == rows:
        return
    said_by = "the file says" if claims.image_size else "the caller says"
    advice = (
        "the file contradicts itself and is refused"
        if claims.image_size
        else "say the image size of pretraining (a file that does not say it cannot be interpolated: load it at its "
        "own size and export it as .safetensors first)"
    )
    raise CheckpointError(
        f"{source}: {said_by} image size {shape_text(trained.image_size)}, which needs {trained.token_count} rows of "
        f"{table}, but the table has {rows}: {advice}"
    )


def _agree(field: str, claimed: object, found: object, source: str) -> None:
    if claimed is not None and claimed != found:
        raise CheckpointError(
            f"{source}: its config says {field} {claimed}, but its tensors have {found}; the file contradicts itself "
            "and is refused"
        )


def _checked(source: str, build: Callable[[], Architecture]) -> Architecture:
    try:
        return build()
    except UsageError as error:
        raise CheckpointError(f"{source}: {error}") from None
