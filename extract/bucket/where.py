"""--where: a small language that chooses volumes; values are compared, never evaluated.

    device=topcon_triton,zeiss_cirrus and eye=L and frames>=64

Comparisons are joined by "and"; a comma separates alternatives, of which one must hold (with !=: none may). A value
with "and", a comma, a quote or one of = < > ! stands in quotes: site="Basel, east".
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embeddings_store.errors import UsageError
from embeddings_store.schema import VolumeRef, site_of
from extract.bucket.catalogue import Catalogue
from extract.bucket.manifest import UNKNOWN_FRAMES

WORDS: Mapping[str, Callable[[VolumeRef, Catalogue], str]] = {
    "device": lambda ref, _: ref.device,
    "protocol": lambda ref, _: ref.protocol,
    "eye": lambda ref, _: str(ref.eye),
    "site": lambda ref, _: site_of(ref.participant, ref.site),
    "participant": lambda ref, _: ref.participant,
    "split": lambda ref, catalogue: catalogue.split(ref) or "unknown",
}
FRAMES = "frames"
FIELDS = (*WORDS, FRAMES)
_ORDERS: Mapping[str, Callable[[int, int], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_VALUE = r""""[^"]+"|'[^']+'|[^\s,"'=<>!](?:[^,"'=<>!]*[^\s,"'=<>!])?"""
_COMPARISON = re.compile(
    rf"(?P<field>\w+)\s*(?P<order>!=|>=|<=|=|>|<)\s*(?P<values>(?:{_VALUE})(?:\s*,\s*(?:{_VALUE}))*)"
)
_AND = re.compile(r"""\s+and\b\s*(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", re.IGNORECASE)
"""Outside of quotes."""

_SHOWN_VALUES = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition; frames are compared with a number, everything else with words."""

    field: str
    order: str
    values: tuple[str, ...]


def parse_where(text: str) -> tuple[Comparison, ...]:
    """Read an expression. Raises: UsageError, which says what can be written instead."""
    return tuple(_parse_comparison(part) for part in _AND.split(text.strip()))


def _parse_comparison(part: str) -> Comparison:
    match = _COMPARISON.fullmatch(part.strip())
    if match is None:
        raise UsageError(
            f"--where: expected comparisons such as device=zeiss_cirrus and frames>=64, joined by 'and'; got {part!r}; "
            "a value with 'and', a comma or a quote of its own stands in quotes"
        )
    field, order = match["field"], match["order"]
    values = tuple(_unquoted(value) for value in re.findall(_VALUE, match["values"]))
    if field not in FIELDS:
        raise UsageError(f"--where: unknown field {field!r}; expected one of {', '.join(FIELDS)}")
    if field != FRAMES and order not in ("=", "!="):
        raise UsageError(f"--where: {field} takes = or !=, got {order}")
    if field == FRAMES and (len(values) > 1 or not values[0].isdecimal()):
        raise UsageError(f"--where: frames is compared with one whole number, got {', '.join(values)!r}")
    if field == "eye":
        values = tuple(value.upper() for value in values)
    return Comparison(field, order, values)


def _unquoted(value: str) -> str:
    return value[1:-1] if value[0] in "\"'" else value


def select_where(refs: Sequence[VolumeRef], comparisons: Sequence[Comparison], catalogue: Catalogue) -> list[VolumeRef]:
    """Keep the volumes for which every comparison holds; one of unknown frames meets no comparison of frames.

    Raises: UsageError for a value that no volume of the bucket has, listing those that exist; or when none is left.
    """
    for comparison in comparisons:
        _require_values(comparison, catalogue)
    kept = [ref for ref in refs if all(_holds(comparison, ref, catalogue) for comparison in comparisons)]
    if not kept:
        raise UsageError("--where: each value exists, but no volume meets all of the comparisons; drop one of them")
    return kept


def _holds(comparison: Comparison, ref: VolumeRef, catalogue: Catalogue) -> bool:
    if comparison.field == FRAMES:
        frames = catalogue.frames(ref.key)
        return frames != UNKNOWN_FRAMES and _ORDERS[comparison.order](frames, int(comparison.values[0]))
    return (WORDS[comparison.field](ref, catalogue) in comparison.values) == (comparison.order == "=")


def _require_values(comparison: Comparison, catalogue: Catalogue) -> None:
    refs = catalogue.listing.refs
    if comparison.field == FRAMES:
        if all(catalogue.frames(ref.key) == UNKNOWN_FRAMES for ref in refs):
            raise UsageError("--where: frames are known from retinal_oct/manifest.tsv only, and this bucket has none")
        return
    existing = sorted({WORDS[comparison.field](ref, catalogue) for ref in refs})
    if unknown := [value for value in comparison.values if value not in existing]:
        raise UsageError(f"--where: no volume has {comparison.field}={unknown[0]}; {_existing(comparison, existing)}")


def _existing(comparison: Comparison, existing: Sequence[str]) -> str:
    if comparison.field == "participant":
        return f"the bucket has files of {len(existing):,} participants"
    more = f" and {len(existing) - _SHOWN_VALUES:,} more" if len(existing) > _SHOWN_VALUES else ""
    return f"expected one of {', '.join(existing[:_SHOWN_VALUES])}{more}"
