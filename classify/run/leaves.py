"""A record as a list of its leaves."""

import json
from collections.abc import Mapping
from typing import Any

READABLE_LETTERS = 120


def flatten(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List a record's leaves as (dotted name, value in JSON), for people to read and trackers to store.

    Of a list that is too long to read only the length is said; run.json holds it.
    """
    found: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in flatten(value)]
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        is_long = isinstance(value, list) and len(text) > READABLE_LETTERS
        found.append((str(name), f"{len(value)} entries, see run.json" if is_long else text))
    return found
