"""A family that a user describes in a Python file of their own: one Family, and nothing else is needed."""

import runpy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from traceback import format_exception_only
from typing import TypeVar, get_args

from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.terminal.console import page
from extract.encoder.families import FAMILIES, OWN_FAMILIES
from extract.encoder.family import Family, Positions

DIGITS = 16
OF_SLICES = ("bicubic", "bicubic_antialias", "bicubic_offset", "fixed", "channels_first", "axial")
"""Positions of pictures; the others are of volumes."""

FACTORISED = ("cls_token", "pos_embed_class", "pos_embed_spatial", "pos_embed_temporal")
KNOWN = tuple(dict.fromkeys(name.removesuffix("?") for kind in FAMILIES.values() for name in kind.extra))
"""Tensors beside blocks, norm and patch embedding that a step of canonical.py knows."""

T = TypeVar("T")


def require_family(word: str) -> Family:
    """Give the family of this name, or the one that a file "./mine.py" describes. Raises UsageError."""
    if word.endswith(".py"):
        return read_family(Path(word))
    if word not in FAMILIES:
        raise UsageError(
            f"--encoder {word}: expected one of {', '.join(FAMILIES)}, a .py file with a Family, onnx:FILE, or "
            "random:tiny or random:base"
        )
    return FAMILIES[word]


def read_family(path: Path) -> Family:
    """Run a user's file and give its only Family, whose name then has the file's sha256: part of the space.

    The file is code and is run as such: take only files that you would run. Raises UsageError.
    """
    try:
        digest = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--encoder {path} cannot be read: {error.strerror}") from error
    found = attempt(path, lambda: runpy.run_path(str(path)), "correct it")
    families = {id(value): value for value in found.values() if isinstance(value, Family)}
    own = [one for one in families.values() if FAMILIES.get(one.name) is not one]
    if len(own) != 1:
        raise UsageError(f"--encoder {path}: expected one Family, got {len(own)}; see {page('encoders.md')}")
    if own[0].name in FAMILIES:
        raise UsageError(f"--encoder {path}: the name {own[0].name} belongs to a family that is known; choose another")
    _require_positions(path, own[0])
    named = replace(own[0], name=f"{own[0].name}@{digest[:DIGITS]}")
    return OWN_FAMILIES.setdefault(named.name, named)


def attempt(path: Path, call: Callable[[], T], advice: str) -> T:
    """Call what a user's file decides, which may raise anything at all. Raises UsageError in its place.

    A future keeps whatever is raised, an exception of the file's own and the end of the process among them.
    """
    with ThreadPoolExecutor(1) as alone:
        done = alone.submit(call)
        error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, OctProbeError | MemoryError):  # which is of the machine
        raise error
    raise UsageError(f"--encoder {path}: the file raised {describe_error(error)}; {advice}") from error


def describe_error(error: BaseException) -> str:
    """Give the class and the first line of what it says, also where it cannot be printed."""
    name, module = type(error).__name__, f"{type(error).__module__}."
    lines = [line.removeprefix(module) for line in "".join(format_exception_only(error)).splitlines()]
    return next((line for line in lines if line.startswith(name)), name)[:300]


def _require_positions(path: Path, kind: Family) -> None:
    """Refuse a family whose positions have no table, or no use for slices; and tensors that no step knows."""
    if (kind.positions in OF_SLICES) != kind.slices:
        fitting = ", ".join(OF_SLICES if kind.slices else [one for one in get_args(Positions) if one not in OF_SLICES])
        raise UsageError(
            f"--encoder {path}: family {kind.name}: positions {kind.positions} with slices={kind.slices}: expected "
            f"{fitting}, or the other kind of slices"
        )
    tables = FACTORISED if kind.positions == "factorised" else ("pos_embed",) if kind.has_table else ()
    names = [name.removesuffix("?") for name in kind.extra]
    if missing := [name for name in tables if name not in names]:
        raise UsageError(f"--encoder {path}: family {kind.name}: extra: positions {kind.positions} need {missing[0]}")
    if unknown := [name for name in names if name not in KNOWN]:
        raise UsageError(
            f"--encoder {path}: family {kind.name}: extra: expected tensors of {', '.join(KNOWN)}, got {unknown[0]}; "
            "rename what the encoder uses, and ignore the rest"
        )
