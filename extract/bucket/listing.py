"""Which objects of a bucket should become rows, and what was passed over."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embeddings_store.schema import VolumeRef
from extract.bucket.keys import LAYOUT, Skip, parse_object
from extract.bucket.source import ObjectInfo, Source
from extract.errors import BucketError


@dataclass(frozen=True)
class Listing:
    """refs: volumes in the order of their keys. listed: objects seen. skipped: how many, by reason."""

    refs: list[VolumeRef]
    listed: int
    skipped: Mapping[str, int]


def list_objects_as(source: Source, seen: Iterable[tuple[ObjectInfo, str]]) -> Listing:
    """Name every volume among objects that were seen in a source, each with the participant that a manifest gives it.

    Raises: BucketError when nothing is recognised.
    """
    listing = _sort_out(source, seen)
    if not listing.refs:
        raise BucketError(_describe_nothing(source, listing))
    return listing


def _sort_out(source: Source, seen: Iterable[tuple[ObjectInfo, str]]) -> Listing:
    """Parse every object; participant is what a manifest says beside the path, and must agree with it."""
    refs: dict[str, VolumeRef] = {}
    skipped: Counter[str] = Counter()
    listed = 0
    for info, participant in seen:
        listed += 1
        parsed = parse_object(info)
        if isinstance(parsed, Skip):
            skipped[parsed.value] += 1
        elif participant and participant != parsed.participant:
            skipped[Skip.CONTRADICTED.value] += 1
        elif info.key in refs:
            skipped[Skip.DOUBLE.value] += 1
        else:
            refs[info.key] = parsed
    passed_over = source.counts.passed_over  # complete only now: seen may be the listing itself
    skipped.update({str(reason): count for reason, count in passed_over.items()})
    return Listing([refs[key] for key in sorted(refs)], listed + passed_over.total(), dict(skipped))


def _describe_nothing(source: Source, listing: Listing) -> str:
    if not listing.listed:
        seen = "nothing is there"
    else:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(listing.skipped.items()))
        seen = f"{listing.listed:,} objects, none of them a volume ({reasons})"
    return f"bucket {source.name}: {seen}; expected {LAYOUT} below the prefix: is --prefix right?"
