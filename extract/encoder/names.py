"""Which of a file's tensors are an encoder's, by a family's names: top keys, wrappers, renames."""

import re
from collections.abc import Iterable, Mapping

from extract.encoder.family import Family
from extract.encoder.foreign import shorten
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


OUTSIDE = ("model.", "net.", "network.", "ddp.")
"""What a LightningModule calls the model that it trains: left out in front of a name only."""

COUNTERS = frozenset({"n_averaged"})
"""Buffers that wrappers add; no part of any encoder."""

BACKBONE = "backbone."
"""What video and self-distillation code calls the encoder beside its heads."""


def select_names(unwrapped: Mapping[str, str], key: str) -> dict[str, str]:
    """Map plain names below a top key ("" for all) to the file's own; a backbone's names lose that word."""
    prefix = f"{key}." if key else ""
    below = {name.removeprefix(prefix): own for name, own in unwrapped.items() if name.startswith(prefix)}
    return {name.removeprefix(BACKBONE): own for name, own in below.items()}


def canonical_names(names: Mapping[str, str], kind: Family) -> dict[str, str]:
    """Map a family's canonical names to the file's own, without what the encoder does not use.

    Raises CheckpointError where two become one.
    """
    used = {name: own for name, own in names.items() if not any(re.fullmatch(one, name) for one in kind.ignored)}
    found: dict[str, str] = {}
    for name, own in used.items():
        if (canonical := rename(name, kind)) in found:
            raise CheckpointError(
                f"{own} and {found[canonical]} are both the tensor {canonical} of {kind.name}: one of them is not its "
                "encoder's"
            )
        found[canonical] = own
    return found


def rename(name: str, kind: Family) -> str:
    """Give the canonical name."""
    for pattern, replacement in kind.renames:
        name = re.sub(pattern, replacement, name)
    return name


def matches(names: Iterable[str], pattern: str) -> bool:
    """Tell whether a whole name matches."""
    return any(re.fullmatch(pattern, name) for name in names)


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
    keys = [f"{shorten(key)} ({count:,} tensor{'' if count == 1 else 's'})" for key, count in contents.items()]
    more = f" and {len(keys) - MOST_KEYS:,} more" if len(keys) > MOST_KEYS else ""
    listed = list(names)
    parts = [f"{part}." for part in sorted(WRAPPERS) if any(part in name.split(".") for name in listed)]
    parts += [prefix for prefix in OUTSIDE if any(name.startswith(prefix) for name in listed)]
    return (
        f"the file holds {', '.join(keys[:MOST_KEYS]) or 'nothing'}{more}; "
        f"prefixes of wrappers: {', '.join(parts) or 'none'}"
    )


def some_names(names: Iterable[str]) -> str:
    """Give a few names for a message."""
    listed = sorted(names)
    return ", ".join(map(shorten, listed[:3])) + (" ..." if len(listed) > 3 else "") if listed else "no tensors"
