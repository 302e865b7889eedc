"""The account of a run, and how it and a store look to a person."""

import resource
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embeddings_store.index import IndexRow
from embeddings_store.reader import StoreReader
from extract.bucket.catalogue import Catalogue
from extract.bucket.report import describe_report, report_bucket
from extract.bucket.source import TransferCounts
from extract.device.backend import Backend
from extract.errors import TRANSIENT
from extract.options import ExtractOptions
from extract.selection import Selection
from extract.stages import StageClock

COVERAGE_BY = ("site", "device", "protocol", "eye")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a run when it is over; ``missing`` are the rows that it set out to make."""

    options: ExtractOptions
    selection: Selection
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
    selected, catalogue, skipped = run.selection.refs, run.selection.catalogue, run.selection.skipped
    chosen = index["key"].isin({ref.key for ref in selected}).to_numpy()
    rows = set(index["row"][chosen])
    errors = Counter(record.failure.error for record in run.store.errors() if record.row in rows)
    seconds = run.clock.seconds()
    return {
        "space": run.store.space_id,
        "store": run.options.store,
        "listed": catalogue.listing.listed,
        "selected": len(selected),
        "committed": int(run.store.committed_among(len(index))[chosen].sum()),
        "already_done": len(selected) - len(run.missing),
        "skipped": sum(skipped.values()),
        "skipped_reasons": skipped,
        "errors": dict(errors),
        "bucket_report": report_bucket(catalogue),
        "catalogue": describe_catalogue(catalogue),
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


def describe_catalogue(catalogue: Catalogue) -> dict[str, Any]:
    """Say how old the look at the bucket is that a run works from, and whether the next start will find it."""
    return {"from_cache": catalogue.from_cache, "age_s": round(catalogue.age_s, 1), "kept": catalogue.kept}


def _peak_rss_mb() -> float:
    """Give the largest resident memory of this process so far; the kernel counts KiB on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def describe_summary(summary: Mapping[str, Any]) -> str:
    """Put the summary of a run into five lines: the bucket, what was there, what it became, how fast, where it lies."""
    seconds, look = summary["seconds"], summary["catalogue"]
    stages = ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in seconds if stage != "wall")
    requests = summary["list_requests"] + summary["get_requests"]
    return (
        f"{describe_report(summary['bucket_report'], look['age_s'], from_cache=look['from_cache'])}\n"
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
    if not status["error_groups"]:
        return
    table = Table("error rows: stage", "class", "rows", "most attempts", "retry", box=None, pad_edge=False)
    for group in status["error_groups"]:
        asked = "by default" if group["error"] in TRANSIENT else f"--classes {group['error']}"
        table.add_row(group["stage"], group["error"], f"{group['rows']:,}", str(group["most_attempts"]), asked)
    console.print(table)
