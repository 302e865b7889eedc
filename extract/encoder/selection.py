"""Which of a checkpoint's tensors are the encoder's: prefixes, and the strict comparison of names and shapes."""

import re
from collections.abc import Iterable, Mapping

from embeddings_store.space import Grid
from extract.encoder.architecture import shape_text
from extract.encoder.layout import VJEPA2, Layout, tensor_shapes
from extract.errors import CheckpointError

WRAPPERS = frozenset(
    {
        "module",  # DataParallel, DistributedDataParallel, DeepSpeed, AveragedModel
        "_orig_mod",  # torch.compile
        "_fsdp_wrapped_module",
        "_fpw_module",  # FSDP of torch 1.11 and fairscale
        "_checkpoint_wrapped_module",
        "_forward_module",  # Lightning Fabric
        "_original_module",
        "_module",  # Opacus
    }
)
"""Name parts that wrappers put around a module, wherever they stand in a name."""

MOST_KEYS = 12
"""How many top keys a refusal lists."""

LONGEST_NAME = 80

BLOCK = re.compile("[0-9]{1,4}")
"""The number of a block; a longer one is none, as it would stand for more tensors than memory holds."""

OUTSIDE = ("model.", "net.", "network.", "ddp.")
"""What a LightningModule calls the model that it trains: left out in front of a name only."""

COUNTERS = frozenset({"n_averaged"})
"""Buffers that wrappers add; no part of any encoder."""


def select_encoder(names: Iterable[str], layout: Layout, which: str, source: str, seen: str) -> dict[str, str]:
    """Map the encoder's plain tensor names to the file's own names; seen: what lies in the file, for the refusal.

    which: "context" (the one to use) or "target". A file without any prefix is one bare encoder, taken as the context.
    Raises CheckpointError where the encoder asked for is not in the file.
    """
    unwrapped = unwrap(names, source)
    prefix = layout.prefixes.get(which)
    if prefix is None:
        raise CheckpointError(f"{source} holds no {which} encoder: a {layout.family} file has one encoder only")
    chosen = {name.removeprefix(prefix): own for name, own in unwrapped.items() if name.startswith(prefix)}
    if chosen:
        return chosen
    bare = [layout.positions or layout.final_norm, f"{layout.patch}.weight"]
    if which == "context" and any(name in unwrapped for name in bare):
        return unwrapped
    if _is_without_config(unwrapped):
        raise CheckpointError(
            f"{source} is a Hugging Face V-JEPA 2 model without its config: point to the folder that holds config.json "
            "and this file"
        )
    raise CheckpointError(
        f"{source} holds no {which} encoder: expected tensors named {prefix}*"
        f"{f' or {bare[0]}, {layout.blocks}.*' if which == 'context' else ''}, got {_some(unwrapped)}; "
        f"{seen}; point to a file of the trainer, or of one encoder"
    )


def require_complete(shapes: Mapping[str, tuple[int, ...]], layout: Layout, source: str, seen: str) -> None:
    """Compare names and shapes with the architecture that they imply; seen: what lies in the file.

    Raises CheckpointError that names the first tensor that is missing, unexpected or of another shape.
    """
    patch, width = _read_patch(shapes, layout, source)
    token_count = _read_table(shapes, layout.positions, source) if layout.positions else 0
    depth = 1 + max((int(name.split(".")[1]) for name in shapes if _is_block(name, layout)), default=0)
    mlp_width = shapes.get(f"{layout.blocks}.0.mlp.fc1.weight", (4 * width,))[0]
    expected = tensor_shapes(layout, token_count, patch, width, depth, mlp_width)
    if missing := [name for name in expected if name not in shapes]:
        raise CheckpointError(
            f"{source}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are); nothing is filled in "
            f"with random numbers: use a complete checkpoint; {seen}"
        )
    if unexpected := [name for name in shapes if name not in expected]:
        raise CheckpointError(
            f"{source}: unexpected tensor {_short(unexpected[0])} (one of {len(unexpected)}): this is another "
            f"architecture than {layout.family}; it cannot be used; {seen}"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{source}: tensor {name}: expected shape {shape_text(shape)}, got {shape_text(shapes[name])}"
            )


def unwrap(names: Iterable[str], source: str) -> dict[str, str]:
    """Map names without the parts that wrappers left to the file's own. Raises CheckpointError where two become one."""
    unwrapped: dict[str, str] = {}
    for own in names:
        name = _without_wrappers(own)
        if name in COUNTERS:
            continue
        if name in unwrapped:
            raise CheckpointError(f"{source}: {own} and {unwrapped[name]} are both the tensor {name}; keep one of them")
        unwrapped[name] = own
    return unwrapped


def _without_wrappers(own: str) -> str:
    name = ".".join(part for part in own.split(".") if part not in WRAPPERS)
    while outside := next((prefix for prefix in OUTSIDE if name.startswith(prefix)), None):
        name = name.removeprefix(outside)
    return name


def describe_contents(contents: Mapping[str, int], names: Iterable[str]) -> str:
    """Tell what lies in a file: its top keys with the tensors below each, and the parts that wrappers left."""
    keys = [f"{_short(key)} ({count:,} tensor{'' if count == 1 else 's'})" for key, count in contents.items()]
    more = f" and {len(keys) - MOST_KEYS:,} more" if len(keys) > MOST_KEYS else ""
    listed = list(names)
    parts = [f"{part}." for part in sorted(WRAPPERS) if any(part in name.split(".") for name in listed)]
    parts += [prefix for prefix in OUTSIDE if any(name.startswith(prefix) for name in listed)]
    return (
        f"the file holds {', '.join(keys[:MOST_KEYS]) or 'nothing'}{more}; "
        f"prefixes of wrappers: {', '.join(parts) or 'none'}"
    )


def _read_patch(shapes: Mapping[str, tuple[int, ...]], layout: Layout, source: str) -> tuple[Grid, int]:
    name = f"{layout.patch}.weight"
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"{source}: tensor {name} is missing; use a complete checkpoint")
    if len(shape) != 5:
        kind = "a 2D model, whose patches have no depth" if len(shape) == 4 else "another architecture"
        raise CheckpointError(
            f"{source}: tensor {name}: expected five axes (width, channels, and the patch's three), "
            f"got {shape_text(shape)}: {kind}; use a 3D encoder"
        )
    if shape[1] != layout.channels:
        wanted = "one grey channel" if layout.channels == 1 else f"{layout.channels} channels"
        raise CheckpointError(
            f"{source}: tensor {name}: expected {wanted}, got {shape[1]}; use a {layout.family} encoder"
        )
    width, _, *patch = shape
    return (patch[0], patch[1], patch[2]), width


def _read_table(shapes: Mapping[str, tuple[int, ...]], name: str, source: str) -> int:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"{source}: tensor {name} is missing; use a complete checkpoint")
    if len(shape) != 3 or shape[0] != 1:
        raise CheckpointError(f"{source}: tensor {name}: expected [1, tokens, width], got {shape_text(shape)}")
    return shape[1]


def _is_without_config(unwrapped: Iterable[str]) -> bool:
    return f"{VJEPA2.prefixes['context']}{VJEPA2.patch}.weight" in unwrapped


def _is_block(name: str, layout: Layout) -> bool:
    parts = name.split(".")
    return len(parts) > 2 and parts[0] == layout.blocks and bool(BLOCK.fullmatch(parts[1]))


def _short(name: str) -> str:
    """Make a name of the file printable, and no longer than a line bears."""
    return name.encode("unicode_escape").decode("ascii")[:LONGEST_NAME]


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(map(_short, listed[:3])) + (" ..." if len(listed) > 3 else "") if listed else "no tensors"
