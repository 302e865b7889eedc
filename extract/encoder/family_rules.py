"""What the fields of a family may hold, so that a slip in a file of one's own is named when it is read."""

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

WORDS = "numbers from 1, * (any), C (the width) or P (the patch)"


def find_fault(kind: Any) -> str | None:
    """Name the first field that cannot be, what was expected and what came; None where all are good."""
    for names, (is_good, expected) in _RULES.items():
        for name in names.split():
            value = getattr(kind, name)
            if not is_good(value):
                return f"{name}: expected {expected}, got {value!r:.80}"
    return next(
        (f"{name}: {problem}" for name in ("has", "lacks", "ignored") for problem in _problems(getattr(kind, name))),
        next((f"renames: {problem}" for pattern, new in kind.renames for problem in _problems((pattern,), new)), None),
    )


def _problems(patterns: tuple[str, ...], replacement: str = "") -> list[str]:
    """List the patterns that are none, and the replacement that names a group which they have not."""
    found = []
    for pattern in patterns:
        try:
            re.compile(pattern).sub(replacement, "")
        except (re.error, IndexError) as error:
            found.append(f"expected a regular expression, got {pattern!r:.80} ({error})")
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, str) for one in value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(_are_texts(pair) and len(pair) == 2 for pair in value)


def _are_shapes(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and _is_text(text) and all(map(_is_side, text.split())) for name, text in value.items()
    )


def _is_side(word: str) -> bool:
    return word in ("*", "C", "P") or (word.isascii() and word.isdecimal() and int(word[:9]) > 0)


def _are_heads(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(size, tuple) and len(size) == 2 and all(map(_is_count, (*size, heads))) and not size[0] % heads
        for size, heads in value.items()
    )


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a word"),
    "preset model_type": (lambda value: value is None or _is_text(value), "a word, or None"),
    "frames side": (lambda value: value is None or _is_count(value), "a whole number from 1, or None"),
    "channels": (lambda value: _is_count(value) and value in (1, 3), "1 or 3"),
    "slices layer_scale key_bias asks teacher_follows": (lambda value: isinstance(value, bool), "True or False"),
    "has lacks ignored context target": (_are_texts, 'a tuple of texts, such as ("blocks.*",)'),
    "keys": (lambda value: _are_texts(value) and bool(value), 'a tuple of at least one text, such as ("",)'),
    "renames": (_are_pairs, r'a tuple of pairs of texts, such as ((r"^layers\.", "blocks."),)'),
    "extra": (_are_shapes, f'tensors and their shapes, such as {{"cls_token": "1 1 C"}}, of {WORDS}'),
    "heads": (_are_heads, "by (width, depth) a number of heads that divides the width, such as {(768, 12): 12}"),
    "eps": (lambda value: isinstance(value, float) and isfinite(value) and value > 0, "a number above 0"),
    "card": (lambda value: hasattr(value, "describe_terms"), "a Card, such as that of the page on encoders"),
    "config": (lambda value: isinstance(value, Mapping), "names and values"),
    "file_form": (callable, "a function"),
}
