"""What a run will read: the bucket, its catalogue, and the volumes that the options leave."""

from collections.abc import Mapping
from dataclasses import dataclass

from embeddings_store.errors import UsageError
from embeddings_store.schema import VolumeRef
from embeddings_store.terminal.console import say
from embeddings_store.text_table import require_match
from extract.bucket.catalogue import Catalogue, open_catalogue
from extract.bucket.object_cache import CachedSource
from extract.bucket.open import open_source
from extract.bucket.participants import read_participant_ids
from extract.bucket.source import Source
from extract.bucket.where import select_where
from extract.options import ExtractOptions


@dataclass(frozen=True)
class Selection:
    """The volumes of a run, and by reason how many of the bucket's volumes were left out."""

    source: Source
    catalogue: Catalogue
    refs: list[VolumeRef]
    left_out: Mapping[str, int]

    @property
    def skipped(self) -> dict[str, int]:
        """Every object that was listed and will not become a row, by reason."""
        return dict(self.catalogue.listing.skipped) | dict(self.left_out)


def select_volumes(options: ExtractOptions, *, now_ns: int) -> Selection:
    """Open the bucket and choose: --where, then --participants, then --limit. Raises: BucketError, UsageError."""
    source = open_bucket(options)
    catalogue = open_catalogue(
        source, now_ns=now_ns, endpoint_url=_endpoint(source, options), refresh=options.refresh, layout=options
    )
    for said in catalogue.notes:
        say(said)
    everything = catalogue.listing.refs
    chosen = select_where(everything, options.conditions, catalogue) if options.where else everything
    invited = _invited(chosen, everything, options)
    refs = invited[: options.limit]
    counts = {
        "excluded by --where": len(everything) - len(chosen),
        "excluded by --participants": len(chosen) - len(invited),
        "beyond --limit": len(invited) - len(refs),
    }
    left_out = {reason: count for reason, count in counts.items() if count}
    return Selection(with_cache(source, options), catalogue, refs, left_out)


def _invited(refs: list[VolumeRef], everything: list[VolumeRef], options: ExtractOptions) -> list[VolumeRef]:
    if options.participants is None:
        return refs
    ids = read_participant_ids(options.participants, say)
    where = f"--participants {options.participants}"
    require_match(ids, frozenset(ref.participant for ref in everything), where, UsageError, "the bucket")
    invited = [ref for ref in refs if ref.participant in ids]
    if not invited:
        raise UsageError(
            f"--participants {options.participants}: none of its {len(ids):,} participants has a volume here; "
            "is it the table of this bucket?"
        )
    return invited


def open_bucket(options: ExtractOptions) -> Source:
    """Open the bucket. Raises: BucketError."""
    return open_source(options.bucket, options.prefix, options.endpoint_url, streams=options.streams, layout=options)


def _endpoint(source: Source, options: ExtractOptions) -> str | None:
    """Name the server, wherever it was named: buckets of one name on two servers are two buckets."""
    found: str | None = getattr(source, "endpoint", options.endpoint_url)
    return found


def with_cache(source: Source, options: ExtractOptions) -> Source:
    """Keep raw objects on the way, where --cache-dir says so."""
    if options.cache_dir is None:
        return source
    place = f"{_endpoint(source, options) or ''}\n{source.name}"
    return CachedSource(source, options.cache_dir, limit_bytes=int(options.cache_gb * 1e9), place=place)
