"""What tensor shapes cannot tell: the head count and the grid, from the file or the caller, never guessed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from extract.encoder.architecture import Architecture, shape_text
from extract.encoder.canonical import count_prefix, table_rows
from extract.encoder.claims import Claims
from extract.encoder.family import Family
from extract.encoder.selection import PATCH, depth_of
from extract.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller says of an encoder.

    image_size: voxels (D, H, W). interpolate: take another one than its own. slices: how many frames, else.
    """

    heads: int | None = None
    image_size: Grid | None = None
    interpolate: bool = False
    slices: int | None = None


def trained_architecture(
    shapes: Shapes, kind: Family, claims: Claims, wish: Wish, grid: Grid | None, source: str
) -> Architecture:
    """Join complete tensor shapes, the file's claims and the caller's word into the encoder as it was trained.

    grid: of the position table, where its values tell. The caller's image size counts where the file states none.
    Raises CheckpointError where something is unknown or two of the three contradict each other.
    """
    width, _, *sides = shapes[PATCH]
    patch: Grid = (1, sides[0], sides[1]) if kind.slices and len(sides) == 2 else (sides[0], sides[1], sides[2])
    depth, mlp_width = depth_of(shapes), shapes["blocks.0.mlp.fc1.weight"][0]
    _agree("patch_size", claims.patch, patch, source)
    _agree("width", claims.width, width, source)
    _agree("depth", claims.depth, depth, source)
    _agree("MLP width", claims.mlp_width, mlp_width, source)
    own_size = claims.image_size if kind.asks and claims.image_size else None
    is_silent = kind.asks and claims.family is not None
    default = None if is_silent else _default_size(shapes, kind, patch, grid, wish.slices)
    size = own_size or wish.image_size or claims.image_size or default
    if size is None:
        raise CheckpointError(
            f"{source} does not say the image size, and many grids have as many tokens: "
            "say --image-size D,H,W (as in pretraining)"
        )
    if size[0] == 1 and "patch_embed_img.proj.weight" in shapes:
        patch = (1, *patch[1:])
    heads = resolve_heads(claims.heads, wish.heads, kind, (width, depth), source)
    prefix = shapes["prefix"][1] if "prefix" in shapes else count_prefix(shapes)
    trained = _checked(
        source, lambda: Architecture(kind.name, size, patch, width, depth, heads, mlp_width, prefix=prefix)
    )
    if kind.positions == "table_3d":
        _require_rows(trained, shapes["pos_embed"][1], claims, source)
    elif kind.positions == "fixed" and (rows := table_rows(shapes, kind)) is not None:
        _require_fixed(trained, rows, source)
    return trained


def wanted_architecture(trained: Architecture, wish: Wish, source: str) -> Architecture:
    """Give the encoder that the caller wants: as trained, or (only when asked) for another image size."""
    image_size = wish.image_size
    if image_size is None or image_size == trained.image_size:
        return trained
    if not wish.interpolate:
        how = "resize the position table" if trained.kind.has_table else "extend its rotary positions to that grid"
        raise CheckpointError(
            f"{source} was trained at image size {shape_text(trained.image_size)}, but {shape_text(image_size)} was "
            f"asked for: leave --image-size out, or say --interpolate to {how}"
        )
    return _checked(source, lambda: replace(trained, image_size=image_size))


def _default_size(shapes: Shapes, kind: Family, patch: Grid, grid: Grid | None, slices: int | None) -> Grid | None:
    """Give the size that the file's own table has, or the family's; None where neither says."""
    if grid is not None:
        return grid[0] * patch[0], grid[1] * patch[1], grid[2] * patch[2]
    if kind.frames is None:
        return None
    frames = slices or kind.frames if kind.slices else kind.frames
    if kind.side is not None:
        side = kind.side - kind.side % patch[2]
        return frames, side, side
    rows = table_rows(shapes, kind)
    if not rows:
        return None
    side = isqrt(rows) * patch[2]
    return frames, side, side


def resolve_heads(claimed: int | None, given: int | None, kind: Family, size: tuple[int, int], source: str) -> int:
    """Give the heads that the file states, the caller says, or were published. Raises CheckpointError."""
    if claimed is not None and given is not None and claimed != given:
        raise CheckpointError(f"{source} says {claimed} heads, but {given} were asked for; leave --num-heads out")
    published = kind.heads.get(size)
    if claimed is None and published is not None and given not in (None, published):
        raise CheckpointError(
            f"{source}: a published {kind.name} of width {size[0]} and {size[1]} blocks has {published} heads, but "
            f"{given} were asked for; leave --num-heads out"
        )
    heads = claimed or given or published
    if heads is None:
        folder = ", or point to the folder that holds config.json and this file" if kind.model_type else ""
        raise CheckpointError(
            f"{source} does not say how many attention heads there are, and tensor shapes (width {size[0]}) cannot "
            f"tell: say --num-heads N (a wrong number gives wrong tokens without any error){folder}"
        )
    return heads


def _require_rows(trained: Architecture, rows: int, claims: Claims, source: str) -> None:
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
        f"pos_embed, but the table has {rows}: {advice}"
    )


def _require_fixed(trained: Architecture, rows: int, source: str) -> None:
    _, height, width = trained.pass_grid
    if (height, width) != (isqrt(rows), isqrt(rows)):
        side = isqrt(rows) * trained.patch[2]
        raise CheckpointError(
            f"{source}: image size {shape_text(trained.image_size)}: expected pictures of {side} x {side}, the only "
            f"size that {trained.family} takes (its positions are not resized); choose another --image-size"
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
