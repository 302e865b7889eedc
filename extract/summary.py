"""The account of a run, and how it and a store look to a person."""

import resource
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embeddings_store.index import IndexRow
from embeddings_store.reader import StoreReader
from embeddings_store.schema import VolumeRef
from extract.bucket.listing import Listing
from extract.bucket.source import TransferCounts
from extract.device.backend import Backend
from extract.options import ExtractOptions
from extract.stages import StageClock

COVERAGE_BY = ("site", "device", "protocol", "eye")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a run when it is over; ``missing`` are the rows that it set out to make."""

    options: ExtractOptions
    listing: Listing
    selected: Sequence[VolumeRef]
    missing: Sequence[IndexRow]
    store: StoreReader
    backend: Backend
    counts: TransferCounts
    clock: StageClock


def summarise(run: Outcome) -> dict[str, Any]:
    """Account for every object: listed = selected + skipped, and selected = committed + errors when the run is done.

    ``committed`` counts selected volumes that have a row now, those of earlier runs included; so do ``errors``.
    """
    index = run.store.index()
    chosen = index["key"].isin({ref.key for ref in run.selected}).to_numpy()
    rows = set(index["row"][chosen])
    errors = Counter(record.failure.error for record in run.store.errors() if record.row in rows)
    already = len(run.selected) - len(run.missing)
    passed_over = len(run.listing.refs) - len(run.selected)
    reasons = dict(run.listing.skipped) | ({"beyond --limit": passed_over} if passed_over else {})
    seconds = run.clock.seconds()
    return {
        "space": run.store.space_id,
        "store": run.options.store,
        "listed": run.listing.listed,
        "selected": len(run.selected),
        "committed": int(run.store.committed_among(len(index))[chosen].sum()),
        "already_done": already,
        "skipped": sum(reasons.values()),
        "skipped_reasons": reasons,
        "errors": dict(errors),
        "list_requests": run.counts.list_requests,
        "get_requests": run.counts.get_requests,
        "retries": run.counts.retries,
        "bytes": run.counts.bytes,
        "volumes_per_second": round(len(run.missing) / seconds["wall"], 3),
        "seconds": seconds,
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "device": run.backend.name,
        "precision": run.backend.precision,
        "compilations": run.backend.compilations(),
        "fallbacks": dict(run.backend.fallbacks()),
    }


def _peak_rss_mb() -> float:
    """Give the largest resident memory of this process so far; the kernel counts KiB on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def describe_summary(summary: Mapping[str, Any]) -> str:
    """Put the summary of a run into four lines: what was there, what it became, how fast, where it lies."""
    seconds = summary["seconds"]
    stages = ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in seconds if stage != "wall")
    requests = summary["list_requests"] + summary["get_requests"]
    return (
        f"{summary['listed']:,} objects listed, {summary['selected']:,} volumes selected, "
        f"{summary['skipped']:,} skipped{_in_brackets(summary['skipped_reasons'])}\n"
        f"{summary['committed']:,} volumes have a row ({summary['already_done']:,} were done before), "
        f"{sum(summary['errors'].values()):,} are error rows{_in_brackets(summary['errors'])}\n"
        f"{summary['volumes_per_second']:.2f} volumes/s, {summary['bytes'] / 1e6:,.1f} MB in {requests:,} requests; "
        f"{seconds['wall']:.1f} s ({stages}); peak memory {summary['peak_rss_mb']:,.0f} MB; "
        f"{summary['device']}, {summary['precision']}\n"
        f"store {summary['store']}, embedding space {summary['space']}"
    )


def _in_brackets(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""


def print_status(status: Mapping[str, Any]) -> None:
    """Print the coverage of a store as a table on stderr."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    console.print(
        f"{status['rows']:,} volumes, {status['committed']:,} committed, {status['errors']:,} error rows"
        f"{_in_brackets(status['errors_by_class'])}, {status['participants']:,} participants; "
        f"embedding space {status['space_id']}"
    )
    table = Table("", "", *(column for column in ("committed", "errors", "missing")), box=None, pad_edge=False)
    for kind in COVERAGE_BY:
        for value, counts in status["coverage"][kind].items():
            table.add_row(kind, value, *(f"{counts[column]:,}" for column in ("committed", "errors", "missing")))
    console.print(table)
