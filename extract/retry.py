"""retry: which error rows are tried again, and which stay until somebody asks for them."""

from collections.abc import Mapping
from typing import Any

from embeddings_store.errors import UsageError
from embeddings_store.reader import open_reader
from embeddings_store.writer import clear_errors
from extract.errors import TRANSIENT, error_classes

ALL = "all"


def lift_classes(store: str, classes: str | None, *, endpoint_url: str | None = None) -> dict[str, Any]:
    """Lift the error rows of these classes ("all", or names joined by commas; None: the transient ones).

    Gives lifted and stay (rows), and both by class. Raises: UsageError for a class that no row can have.
    """
    chosen = None if classes == ALL else TRANSIENT if classes is None else _parse(store, classes, endpoint_url)
    lifted, stay = clear_errors(store, classes=chosen, endpoint_url=endpoint_url)
    return {
        "lifted": sum(lifted.values()),
        "stay": sum(stay.values()),
        "lifted_by_class": lifted,
        "stay_by_class": stay,
    }


def describe_lifted(found: Mapping[str, Any], store: str) -> str:
    """Say class by class what is lifted and what stays, and how to go on."""
    lines = [f"lifted: {name} {count:,}" for name, count in found["lifted_by_class"].items()]
    lines += [f"stays:  {name} {count:,}" for name, count in found["stay_by_class"].items()]
    lines += [f"{found['lifted']:,} error rows lifted, {found['stay']:,} stay"]
    if found["lifted"]:
        lines += [f"run extract-embeddings --bucket ... --store {store} again to retry them"]
    if found["stay"]:
        lines += [f"to retry more: --classes {','.join(found['stay_by_class'])}, or --classes {ALL}"]
    return "\n".join(lines)


def _parse(store: str, text: str, endpoint_url: str | None) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(","))
    present = {record.failure.error for record in open_reader(store, endpoint_url=endpoint_url).errors()}
    known = present | TRANSIENT | set(error_classes())
    if unknown := sorted(names - known):
        here = ", ".join(sorted(present)) or "no error rows"
        raise UsageError(f"--classes: no error row can have the class {unknown[0]!r}; the store has {here}")
    return names
