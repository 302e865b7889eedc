"""The cards of the public datasets."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from extract.layouts.datasets import load_datasets


def cards() -> list[dict[str, Any]]:
    """Give every card in plain JSON types, with the dataset's name, unit and label columns."""
    return [
        {"name": name, **asdict(one.card), "unit": one.unit, "labels": list(one.columns)}
        for name, one in load_datasets().items()
    ]


def describe_cards(found: Sequence[dict[str, Any]]) -> str:
    """Put the cards into lines for a person."""
    return "\n\n".join(
        f"{one['name']}: {one['title']}\n  {one['what']}\n  get it: {one['get']}\n  licence: {one['licence']}\n"
        f"  cite: {one['citation']}\n" + "\n".join(f"  mind: {trap}" for trap in one["traps"])
        for one in found
    )
