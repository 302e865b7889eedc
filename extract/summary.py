"""The account of a run, and how it and a store look to a person."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from embeddings_store.encoder_source import NOT_RECORDED, source_of_record
from embeddings_store.encoding_cost import ABSENT, cost_of_record
from embeddings_store.failed_rows import failed_rows_of
from embeddings_store.notes import count_notes
from embeddings_store.presence import Presence
from embeddings_store.ranks import Rank
from embeddings_store.reader import reader_on
from embeddings_store.safe_keys import shortened
from embeddings_store.terminal.console import show, show_table
from extract.bucket.catalogue import Catalogue
from extract.bucket.report import describe_report, report_bucket
from extract.busy import advise, busy_shares, describe_limit, limiting_stage
from extract.cost import cost_per_1000_volumes, describe_cost
from extract.encoder.own_preset import note_on_preset
from extract.engines.account import Account
from extract.errors import TRANSIENT
from extract.options import ExtractOptions
from extract.progress import Progress
from extract.selection import Selection
from extract.stages import StageClock
from extract.stop import StopRequest
from extract.targets import Job, Target

FIRST = 5
"""Failures that the end of a run names."""

COVERAGE_BY = ("site", "device", "protocol", "eye")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a run when it is over, or was stopped. before: the clock when the engine began.

    workers: threads by stage."""

    options: ExtractOptions
    selection: Selection
    targets: Sequence[Target]
    jobs: Sequence[Job]
    rank: Rank
    presence: Presence
    workers: Mapping[str, int]
    account: Account
    clock: StageClock
    before: Mapping[str, float]
    progress: Progress
    stop: StopRequest


def summarise(run: Outcome) -> dict[str, Any]:
    """Account for every object: listed = selected + skipped; at the end, selected = committed + errors + parts.

    With several stores the rows of each are under ``stores``; with one they stand beside the rest.
    """
    stores = [_account_store(run, number) for number in range(len(run.targets))]
    catalogue, skipped, counts = run.selection.catalogue, run.selection.skipped, run.selection.source.counts
    seconds, account = run.clock.seconds(), run.account
    busy = busy_shares(run.before, seconds, run.workers)
    limiting = limiting_stage(busy)
    volumes = run.progress.done / len(run.targets)
    return {
        **(stores[0] if len(stores) == 1 else {"stores": stores}),
        "listed": catalogue.listing.listed,
        "selected": len(run.selection.refs),
        "skipped": sum(skipped.values()),
        "skipped_reasons": skipped,
        "skipped_examples": describe_skipped(catalogue),
        "bucket_report": report_bucket(catalogue),
        "catalogue": describe_catalogue(catalogue),
        "list_requests": counts.list_requests,
        "get_requests": counts.get_requests,
        "retries": counts.retries,
        "bytes": counts.bytes,
        "partial_reads": {
            "volumes": counts.partial_volumes,
            "bytes_saved": counts.saved_bytes,
            "extra_requests": counts.extra_requests,
        },
        "volumes_per_second": round(volumes / seconds["wall"], 3),
        "seconds": seconds,
        "workers": dict(run.workers),
        "busy": busy,
        "limiting_stage": limiting,
        "advice": advise(limiting, account.device, volumes, slow_line=counts.slow_lines > 0),
        "cost_per_1000_volumes_usd": cost_per_1000_volumes(
            volumes, counts, seconds["wall"], run.options.endpoint_url, run.options.usd_per_hour
        ),
        "peak_rss_mb": account.peak_rss_mb,
        "peak_device_mb": account.peak_device_mb,
        "device": account.device,
        "precision": run.targets[0].opened.space.precision,
        "batch_sizes": list(account.batch_sizes),
        "rank": run.rank.number,
        "ranks": run.rank.count,
        "twins": run.presence.twins,
        "processes": account.processes,
        "stopped_by": run.stop.name,
        "compilations": account.compilations,
        "fallbacks": dict(account.fallbacks),
    }


def _account_store(run: Outcome, number: int) -> dict[str, Any]:
    """Count the selected volumes that have a row, or an error row, now, whoever made it and when.

    notes: what a reader of these rows should know of how they were made. volume_notes: what was noticed about the
    volumes of this run.
    """
    selection, target = run.selection, run.targets[number]
    note = note_on_preset(target.opened.encoder, target.opened.space.preset["name"])
    store = reader_on(target.writer.storage)
    index = store.index()
    keys = {ref.key for ref in selection.refs}
    chosen = index["key"].isin(keys).to_numpy()
    rows, committed = set(index["row"][chosen]), store.committed_among(len(index))
    made = [row for job in run.jobs if number in job.lines and committed[row := job.lines[number].row]]
    records = [record for record in store.quarantined() if record.row in rows]
    done = int(committed[chosen].sum())
    return {
        "space": store.space_id,
        "store": target.opened.store,
        "committed": done,
        "already_done": len(selection.refs) - len(target.missing),
        "errors": dict(Counter(record.failure.error for record in records if not record.failure.whole)),
        "first_errors": [one for one in failed_rows_of(store) if one["key"] in keys][:FIRST],
        "parts": sum(bool(record.failure.whole) for record in records),
        "left": len(selection.refs) - done - len(records),
        "notes": [note] if note else [],
        "volume_notes": [asdict(one) for one in count_notes(store, index, made)],
    }


def describe_catalogue(catalogue: Catalogue) -> dict[str, Any]:
    """Say how old the look at the bucket is that a run works from, and whether the next start will find it."""
    replaced = catalogue.replaced_age_s
    return {
        "from_cache": catalogue.from_cache,
        "age_s": round(catalogue.age_s, 1),
        "kept": catalogue.kept,
        "replaced_age_s": None if replaced is None else round(replaced, 1),
    }


def describe_skipped(catalogue: Catalogue) -> dict[str, str]:
    """Say, for what is skipped for its name, what was expected, with an example."""
    listing = catalogue.listing
    return {
        str(reason): f"expected {listing.expected[reason]}; such as {shortened(listing.examples[reason])}"
        for reason in listing.skipped
        if reason in listing.expected and reason in listing.examples
    }


def describe_look(account: Mapping[str, Any]) -> str:
    """Say how old the look at the bucket was and what was amiss, of a run or a plan."""
    look = account["catalogue"]
    return describe_report(
        account["bucket_report"], look["age_s"], from_cache=look["from_cache"], replaced_age_s=look["replaced_age_s"]
    )


def describe_summary(summary: Mapping[str, Any]) -> str:
    """Put the summary of a run into lines: the bucket, what was there, what it became and where, how fast, and why."""
    seconds = summary["seconds"]
    stages = ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in seconds if stage != "wall")
    requests = summary["list_requests"] + summary["get_requests"]
    return (
        f"{describe_look(summary)}\n"
        f"{summary['listed']:,} objects listed, {summary['selected']:,} volumes selected, "
        f"{summary['skipped']:,} skipped{_in_brackets(summary['skipped_reasons'])}\n"
        + "".join(f"skipped, {reason}: {said}\n" for reason, said in summary["skipped_examples"].items())
        + "".join(_describe_store(store) + _describe_left(store, summary) for store in store_accounts(summary))
        + f"{summary['volumes_per_second']:.2f} volumes/s, {summary['bytes'] / 1e6:,.1f} MB in {requests:,} requests"
        f"{_describe_parts(summary['partial_reads'])}; "
        f"{seconds['wall']:.1f} s ({stages}); peak memory {summary['peak_rss_mb']:,.0f} MB"
        f"{_describe_device(summary)}, {summary['precision']}\n"
        f"{describe_limit(summary)}{describe_cost(summary['cost_per_1000_volumes_usd'])}"
    )


def store_accounts(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the account of each store, wherever it stands in a summary."""
    return list(summary.get("stores", [summary]))


def _describe_store(store: Mapping[str, Any]) -> str:
    return (
        f"{store['committed']:,} volumes have a row, {sum(store['errors'].values()):,} are error rows"
        f"{_in_brackets(store['errors'])}{_describe_joined(store['parts'])}; "
        f"{store['already_done']:,} of {'these' if store['parts'] else 'both'} were there before; "
        f"store {store['store']}, embedding space {store['space']}\n"
        + "".join(f"error: {line}\n" for line in describe_failures(store["first_errors"]).splitlines())
        + "".join(f"note: {note}\n" for note in store["notes"])
        + "".join(
            f"note {one['note']}: {one['rows']:,} of the volumes encoded now, such as {one['example']}\n"
            for one in store["volume_notes"]
        )
    )


def _describe_device(summary: Mapping[str, Any]) -> str:
    """Name the device, how many there were, and the most memory that one of them held."""
    several = f"{summary['processes']} x " if summary["processes"] > 1 else ""
    held = "" if summary["peak_device_mb"] is None else f" (of the device {summary['peak_device_mb']:,.0f} MB)"
    return f"{held}; {several}{summary['device']}"


def _describe_left(store: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Say that other ranks have not done their share, or not yet: nothing else would, where they never come."""
    if not store["left"] or summary["ranks"] == 1 or summary["stopped_by"]:
        return ""
    return (
        f"{store['left']:,} volumes have no row yet: they belong to the other ranks; where those are not at work, "
        f"start each of the {summary['ranks']}, or this command without --rank and --ranks\n"
    )


def _describe_joined(parts: int) -> str:
    return f", {parts:,} are further parts of volumes in several files" if parts else ""


def _describe_parts(parts: Mapping[str, int]) -> str:
    """Say what reading in parts saved, where it was done."""
    if not parts["volumes"]:
        return ""
    saved = f"{parts['bytes_saved'] / 1e6:,.1f} MB saved for {parts['extra_requests']:,} more requests"
    return f" ({parts['volumes']:,} volumes in parts: {saved})"


def _in_brackets(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""


def describe_notes(notes: Sequence[Mapping[str, Any]]) -> str:
    """Put what was noticed about the volumes of a store into a table."""
    lines = [f"{'note':<24}{'volumes':>10}  such as"]
    lines += [f"{one['note']:<24}{one['rows']:>10,}  {one['example']}" for one in notes]
    return "\n".join(lines) if notes else "no volume has a note"


def print_status(status: Mapping[str, Any]) -> None:
    """Print the coverage of a store as a table."""
    from rich.table import Table

    show(
        f"{status['rows']:,} volumes, {status['committed']:,} committed, {status['errors']:,} error rows"
        f"{_in_brackets(status['errors_by_class'])}{_describe_joined(status['parts'])}, "
        f"{status['participants']:,} participants; "
        f"embedding space {status['space_id']}"
    )
    encoder = source_of_record(status["encoder"])
    show(f"encoder: {encoder.describe() if encoder else NOT_RECORDED}")
    cost = cost_of_record(status["encoding_cost"])
    show(f"cost: {cost.describe() if cost else ABSENT}")
    table = Table("", "", *(column for column in ("committed", "errors", "missing")), box=None, pad_edge=False)
    for kind in COVERAGE_BY:
        for value, counts in status["coverage"][kind].items():
            table.add_row(kind, value, *(f"{counts[column]:,}" for column in ("committed", "errors", "missing")))
    show_table(table)
    if not status["error_groups"]:
        return
    table = Table("error rows: stage", "class", "rows", "most attempts", "retry", box=None, pad_edge=False)
    for group in status["error_groups"]:
        asked = "by default" if group["error"] in TRANSIENT else f"--classes {group['error']}"
        table.add_row(group["stage"], group["error"], f"{group['rows']:,}", str(group["most_attempts"]), asked)
    show_table(table)
    for one in status["commonest_errors"]:
        show(f"{one['class']} {one['rows']:,}, such as {one['example']}: {one['reason']}")


def describe_failures(found: Sequence[Mapping[str, Any]]) -> str:
    """Put what failed, and why, into a line each; keys without their UIDs."""
    return "\n".join(
        f"{shortened(one['key'])} (participant {one['participant']}): {one['stage']}, {one['class']}, "
        f"{one['tries']} {'try' if one['tries'] == 1 else 'tries'}: {one['reason']}"
        for one in found
    )
