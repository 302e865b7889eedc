"""The cards of the public datasets."""

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from embeddings_store.errors import UsageError
from extract.layouts.datasets import load_datasets


def cards(wanted: str | None = None) -> list[dict[str, Any]]:
    """Give every card, or the one that is wanted, in plain JSON types, with name, unit, label columns and tasks.

    Raises: UsageError for a name that no dataset has.
    """
    datasets = load_datasets()
    if wanted is not None and wanted not in datasets:
        near = get_close_matches(wanted.lower(), datasets, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"datasets: expected one of {', '.join(datasets)}, got {wanted!r}{hint}")
    return [
        {
            "name": name,
            **asdict(one.card),
            "unit": one.unit,
            "labels": list(one.columns),
            "tasks": [f"{name}/{task.name}" for task in one.tasks],
        }
        for name, one in datasets.items()
        if wanted in {None, name}
    ]


def describe_cards(found: Sequence[dict[str, Any]]) -> str:
    """Put the cards into lines for a person."""
    return "\n\n".join(
        f"{one['name']}: {one['title']}\n  {one['what']}\n  get it: {one['get']}\n  licence: {one['licence']}\n"
        f"  cite: {one['citation']}\n  ask: --task {', '.join(one['tasks']) or '(it has none)'}\n"
        + "\n".join(f"  mind: {trap}" for trap in one["traps"])
        for one in found
    )
