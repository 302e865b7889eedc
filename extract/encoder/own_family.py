"""A family that a user describes in a Python file of their own: one Family, and nothing else is needed."""

import runpy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import page
from extract.encoder.families import FAMILIES, OWN_FAMILIES
from extract.encoder.family import Family

FAULTS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, NameError,
    OSError, RuntimeError, SyntaxError, SystemExit, TypeError, UsageError, ValueError,
)  # fmt: skip
"""What somebody else's file may raise."""

DIGITS = 16


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
        found: dict[str, Any] = runpy.run_path(str(path))
    except FAULTS as error:
        line = (str(error).strip() or "no reason given").splitlines()[0]
        raise UsageError(f"--encoder {path}: the file raised {type(error).__name__}: {line}; correct it") from error
    families = {id(value): value for value in found.values() if isinstance(value, Family)}
    own = [one for one in families.values() if FAMILIES.get(one.name) is not one]
    if len(own) != 1:
        raise UsageError(f"--encoder {path}: expected one Family, got {len(own)}; see {page('encoders.md')}")
    if own[0].name in FAMILIES:
        raise UsageError(f"--encoder {path}: the name {own[0].name} belongs to a family that is known; choose another")
    named = replace(own[0], name=f"{own[0].name}@{digest[:DIGITS]}")
    return OWN_FAMILIES.setdefault(named.name, named)
