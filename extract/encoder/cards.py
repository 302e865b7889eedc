"""The encoders that can be named, each on a card."""

from collections.abc import Mapping, Sequence
from typing import Any

from extract.encoder.families import FAMILIES
from extract.encoder.family import Family


def cards() -> list[dict[str, Any]]:
    """Give what a person should know of each family, in plain JSON types."""
    return [_card(kind) for kind in FAMILIES.values()]


def _card(kind: Family) -> dict[str, Any]:
    card = kind.card
    return {
        "family": kind.name,
        "title": card.title,
        "licence": card.licence,
        "commercial_use": card.commercial if card.licence else None,
        "gated": card.gated,
        "citation": card.citation,
        "weights": card.weights,
        "preset": kind.preset,
        "input": "single B-scans" if kind.slices else "whole volumes",
        "frames": kind.frames,
        "channels": kind.channels,
        "class_token": any(name in kind.extra for name in ("cls_token", "global_tokens")),
        "terms": card.describe_terms(),
    }


def describe_cards(found: Sequence[Mapping[str, Any]]) -> str:
    """Put the cards into lines for a person."""
    return "\n".join(
        f"{one['family']:<17} {one['title']}\n"
        f"{'':<17} {one['terms']}; {one['input']}, preset {one['preset']}\n"
        f"{'':<17} file: {one['weights']}" + (f"\n{'':<17} cite: {one['citation']}" if one["citation"] else "")
        for one in found
    )
