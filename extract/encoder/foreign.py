"""Names of foreign code in a checkpoint: never imported, but somebody put them there."""

from collections.abc import Mapping
from typing import Any

MAX_NAME = 80
SHOWN = 3


def foreign_names(facts: Mapping[str, Any]) -> list[str]:
    """Give the names that a trainer's file has no need of, printable and short."""
    return [shorten(name) for name in facts.get("foreign_globals", ())]


def shorten(name: object) -> str:
    """Make what a file says printable, and no longer than a line bears."""
    return str(name)[:MAX_NAME].encode("unicode_escape").decode("ascii")[:MAX_NAME]


def describe_foreign(facts: Mapping[str, Any]) -> str | None:
    """Warn of them in one line; None where there are none."""
    names = foreign_names(facts)
    if not names:
        return None
    some = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
    return (
        f"the file names foreign code ({some}), which a trainer's file does not need; it was kept inert and nothing of "
        "it was run: ask where this file comes from"
    )
