"""Which of a checkpoint's tensors are the encoder's: prefixes, and the strict comparison of names and shapes."""

from collections.abc import Iterable, Mapping

from embeddings_store.space import Grid
from extract.encoder.architecture import shape_text, tensor_shapes
from extract.errors import CheckpointError

WRAPPERS = frozenset({"module", "_orig_mod"})
"""Name parts that DistributedDataParallel and torch.compile put in."""

PREFIXES = {"context": "context_encoder.", "target": "target_encoder.encoder."}


def select_encoder(names: Iterable[str], which: str, source: str) -> dict[str, str]:
    """Map the encoder's plain tensor names to the file's own names.

    which: "context" (the one to use) or "target". A file without any prefix is one bare encoder, taken as the context.
    Raises CheckpointError where the encoder asked for is not in the file.
    """
    unwrapped = _unwrap(names, source)
    chosen = {
        name.removeprefix(PREFIXES[which]): own for name, own in unwrapped.items() if name.startswith(PREFIXES[which])
    }
    if chosen:
        return chosen
    if which == "context" and ("pos_embed" in unwrapped or "patch_embed.proj.weight" in unwrapped):
        return unwrapped
    raise CheckpointError(
        f"{source} holds no {which} encoder: expected tensors named {PREFIXES[which]}*"
        f"{' or pos_embed, blocks.*' if which == 'context' else ''}, got {_some(unwrapped)}; "
        "point to a file of the trainer, or of one encoder"
    )


def require_complete(shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Compare names and shapes with the architecture that they imply.

    Raises CheckpointError that names the first tensor that is missing, unexpected or of another shape.
    """
    patch, (token_count, width) = _read_patch(shapes, source), _read_table(shapes, source)
    depth = 1 + max((int(name.split(".")[1]) for name in shapes if _is_block(name)), default=0)
    mlp_width = shapes.get("blocks.0.mlp.fc1.weight", (4 * width,))[0]
    expected = tensor_shapes(token_count, patch, width, depth, mlp_width)
    if missing := [name for name in expected if name not in shapes]:
        raise CheckpointError(
            f"{source}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are); nothing is filled in "
            "with random numbers: use a complete checkpoint"
        )
    if unexpected := [name for name in shapes if name not in expected]:
        raise CheckpointError(
            f"{source}: unexpected tensor {unexpected[0]} (one of {len(unexpected)}): this is another architecture "
            "than vjepa3d, whose tensors MODEL.md lists; it cannot be used"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{source}: tensor {name}: expected shape {shape_text(shape)}, got {shape_text(shapes[name])}"
            )


def _unwrap(names: Iterable[str], source: str) -> dict[str, str]:
    unwrapped: dict[str, str] = {}
    for own in names:
        name = ".".join(part for part in own.split(".") if part not in WRAPPERS)
        if name in unwrapped:
            raise CheckpointError(f"{source}: {own} and {unwrapped[name]} are both the tensor {name}; keep one of them")
        unwrapped[name] = own
    return unwrapped


def _read_patch(shapes: Mapping[str, tuple[int, ...]], source: str) -> Grid:
    shape = shapes.get("patch_embed.proj.weight")
    if shape is None:
        raise CheckpointError(f"{source}: tensor patch_embed.proj.weight is missing; use a complete checkpoint")
    if len(shape) != 5:
        kind = "a 2D model, whose patches have no depth" if len(shape) == 4 else "another architecture"
        raise CheckpointError(
            f"{source}: tensor patch_embed.proj.weight: expected five axes (width, 1, and the patch's three), "
            f"got {shape_text(shape)}: {kind}; use a 3D encoder"
        )
    if shape[1] != 1:
        raise CheckpointError(
            f"{source}: tensor patch_embed.proj.weight: expected one grey channel, got {shape[1]}; "
            "use a vjepa3d encoder"
        )
    _, _, depth, height, width = shape
    return depth, height, width


def _read_table(shapes: Mapping[str, tuple[int, ...]], source: str) -> tuple[int, int]:
    shape = shapes.get("pos_embed")
    if shape is None:
        raise CheckpointError(f"{source}: tensor pos_embed is missing; use a complete checkpoint")
    if len(shape) != 3 or shape[0] != 1:
        raise CheckpointError(f"{source}: tensor pos_embed: expected [1, tokens, width], got {shape_text(shape)}")
    return shape[1], shape[2]


def _is_block(name: str) -> bool:
    parts = name.split(".")
    return len(parts) > 2 and parts[0] == "blocks" and parts[1].isdecimal()


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (" ..." if len(listed) > 3 else "") if listed else "no tensors"
