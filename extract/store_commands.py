"""The commands of extract-embeddings that look after a store; cli.py takes them in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embeddings_store.command_line import Options, verb
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import EndpointUrl, Json, StoreOptions
from embeddings_store.terminal.console import emit_json, emit_text, show

if TYPE_CHECKING:
    from embeddings_store.reader import StoreReader

store_commands = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class StatusOptions(StoreOptions):
    """What is shown of a store."""

    note: Annotated[
        str | None, typer.Argument(help="With --notes: list the volumes that have this note.", show_default=False)
    ] = None
    notes: Annotated[bool, typer.Option(help="Count what was noticed about the volumes, with an example of each.")] = (
        False
    )


@verb(store_commands)
def status(options: StatusOptions, *, json: Json = False) -> None:
    """Show what is in a store: rows, errors, coverage by site, device, protocol and eye; or the notes.

    Example: extract-embeddings status --store ./store

    Example: extract-embeddings status --store ./store --notes NO_SPACING
    """
    from embeddings_store.reader import open_reader
    from embeddings_store.status import store_status
    from extract.summary import print_status

    reader = open_reader(options.store, endpoint_url=options.endpoint_url)
    if options.notes:
        _show_notes(reader, options.note, as_json=json)
        return
    if options.note is not None:
        raise UsageError(f"status: expected --notes before the name of a note, got {options.note!r} alone")
    found = store_status(reader)
    if json:
        emit_json(found)
    else:
        print_status(found)
        projected = found["projected_bytes"]
        show(
            f"{found['row_bytes_in_all'] / 1e6:,.2f} MB a row; 25,000 volumes take {projected['25000'] / 1e9:,.1f} GB, "
            f"250,000 take {projected['250000'] / 1e9:,.1f} GB on a disk"
        )


def _show_notes(reader: "StoreReader", note: str | None, *, as_json: bool) -> None:
    from dataclasses import asdict

    import numpy as np

    from embeddings_store.notes import count_notes, rows_with_note
    from extract.summary import describe_notes

    if note is not None:
        volumes = rows_with_note(reader, note)
        if as_json:
            emit_json({"note": note, "volumes": volumes.to_dict("records")})
        else:
            show("\n".join(volumes["volume"]) or f"no volume has the note {note}")
        return
    index = reader.index()
    counts = count_notes(reader, index, np.flatnonzero(reader.committed_among(len(index))).tolist())
    found = [asdict(one) for one in counts]
    if as_json:
        emit_json({"notes": found})
    else:
        show(describe_notes(found))


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(StoreOptions):
    """Which rows are checked."""

    sample: Annotated[int | None, typer.Option(min=1, help="Check only this many rows, spread over the store.")] = None
    repair: Annotated[
        bool, typer.Option(help="Take the commits of bad rows away, so that the next run encodes them again.")
    ] = False


@verb(store_commands)
def verify(options: VerifyOptions, *, json: Json = False) -> None:
    """Recompute every checksum, and name what differs; --repair lets the next run encode bad rows again.

    Example: extract-embeddings verify --store ./store --sample 500

    Exit codes: 0 all is whole, 1 a row is bad or cannot be read, or another file is damaged.
    """
    from embeddings_store.terminal.progress import row_bar
    from embeddings_store.verify import verify_store

    with row_bar("rows checked") as progress:
        found = verify_store(
            options.store,
            endpoint_url=options.endpoint_url,
            sample=options.sample,
            repair=options.repair,
            progress=progress,
        )
    show(
        f"{found['checked']:,} rows checked, {found['bad']:,} bad, {found['unreadable']:,} that cannot be read, "
        f"{found['orphans']:,} orphans, {len(found['damaged_files']):,} other files damaged, "
        f"{len(found['leftovers']):,} files of killed runs{' deleted' if options.repair else ''}, "
        f"{len(found['foreign_files']):,} foreign files"
    )
    taken = "; its commit was taken away" if options.repair else ""
    for line in (
        *(f"row {row}: {fault}{taken}" for row, fault in found["faults"].items()),
        *(f"row {row}: {why}" for row, why in found["unreadable_rows"].items()),
        *(f"{path}: {fault}" for path, fault in found["damaged_files"].items()),
        *(f"foreign, ignored: {path}" for path in found["foreign_files"]),
    ):
        show(line)
    if found["bad"] and not options.repair:
        show("verify --repair takes the commits of bad rows away; the next run encodes them again")
    if json:
        emit_json(found)
    if found["bad"] or found["unreadable"] or found["damaged_files"]:
        raise typer.Exit(1)


@verb(store_commands)
def snapshot(options: StoreOptions, *, json: Json = False) -> None:
    """Write an immutable copy of the pooled vectors, in large chunks: what training reads.

    Example: extract-embeddings snapshot --store ./store
    """
    from embeddings_store.snapshot import write_snapshot
    from embeddings_store.terminal.progress import row_bar

    with row_bar("rows read") as progress:
        number = write_snapshot(options.store, endpoint_url=options.endpoint_url, progress=progress)
    show(f"snapshot {number} written")
    if json:
        emit_json({"snapshot": number})


@dataclass(frozen=True, kw_only=True)
class PackOptions(StoreOptions):
    """Whether small files are packed, or only counted."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many objects there would be, and write nothing.")
    ] = False


@verb(store_commands)
def pack(options: PackOptions, *, json: Json = False) -> None:
    """Put the small files of rows (vectors, facts, thumbnails, commits) into few objects; tokens stay as they are.

    Example: extract-embeddings pack --store ./store --dry-run

    Exit codes: 0 done, 1 a row is damaged: it and its neighbours stay as they are.
    """
    from dataclasses import asdict

    from embeddings_store.pack import pack_store
    from embeddings_store.terminal.progress import row_bar

    with row_bar("rows packed") as progress:
        found = pack_store(options.store, endpoint_url=options.endpoint_url, dry_run=options.dry_run, progress=progress)
    show(
        f"{found.rows_packed:,} of {found.rows:,} rows {'would be packed' if options.dry_run else 'packed'}: "
        f"{found.objects_before:,} objects before, {found.objects_after:,} after"
    )
    for row in found.damaged_rows:
        show(
            f"row {row} is damaged, and it and its neighbours stay as they are; run verify --repair, then extract again"
        )
    if json:
        emit_json(asdict(found))
    if found.damaged_rows:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(StoreOptions):
    """What is exported, and where to."""

    out: Annotated[Path, typer.Option(help="A new file (parquet) or a new folder (npy).")]
    format_name: Annotated[
        Literal["parquet", "npy"], typer.Option("--format", help="One table, or a matrix and its index.")
    ]
    snapshot: Annotated[int | None, typer.Option(min=1, help="Which snapshot.", show_default="the newest state")] = None


@verb(store_commands, "export")
def export_pooled(options: ExportOptions, *, json: Json = False) -> None:
    """Write the pooled vectors and their index for pandas, R or NumPy: one row a volume.

    Example: extract-embeddings export --store ./store --out pooled.parquet --format parquet
    """
    from embeddings_store.export import export_store

    found = export_store(
        options.store, options.out, options.format_name, number=options.snapshot, endpoint_url=options.endpoint_url
    )
    show(f"{found['rows']:,} rows of {found['numbers_a_row']:,} numbers in {options.out} ({found['source']})")
    if json:
        emit_json(found)


@dataclass(frozen=True, kw_only=True)
class PoolOptions(StoreOptions):
    """What is derived from a store's tokens."""

    pool: Annotated[str, typer.Option(help="Vectors to derive: any of mean,max,std,min,median.")]
    tokens: Annotated[str, typer.Option(help="Token grid to derive as well, DxHxW, or none.")] = "none"


@verb(store_commands, "pool")
def pool_stored(options: PoolOptions, *, json: Json = False) -> None:
    """Derive pooled vectors and coarser token grids from stored full tokens, without bucket and encoder.

    Example: extract-embeddings pool --store ./store --pool median,min --tokens 4x6x6
    """
    from embeddings_store.derive import derive_store
    from embeddings_store.terminal.progress import row_bar
    from embeddings_store.token_pooling import parse_coarse_grid, parse_token_pools

    pools, grid = parse_token_pools(options.pool), parse_coarse_grid(options.tokens)
    with row_bar("rows derived") as progress:
        found = derive_store(options.store, pools, grid, endpoint_url=options.endpoint_url, progress=progress)
    show(f"{found['derived']:,} rows derived, {found['committed']:,} in all, in {found['store']}")
    deviation = found["deviation"]
    for name, relative in deviation["max_relative"].items():
        show(
            f"{name} of stored tokens, which are rounded, against the encoder's own, over {deviation['rows']:,} rows: "
            f"up to {relative:.1e} of a vector's length, {deviation['max_abs'][name]:.1e} a number"
        )
    if json:
        emit_json(found)


@dataclass(frozen=True, kw_only=True)
class ErrorsOptions(StoreOptions):
    """Which form the list takes."""

    csv: Annotated[bool, typer.Option("--csv", help="The whole list as CSV on stdout, with full keys.")] = False


@verb(store_commands)
def errors(options: ErrorsOptions, *, json: Json = False) -> None:
    """List what failed and why: key, participant, stage, class, reason and tries of every error row.

    Example: extract-embeddings errors --store ./store --csv
    """
    from embeddings_store.failed_rows import failed_rows_of, to_csv
    from embeddings_store.reader import open_reader
    from extract.summary import describe_failures

    if options.csv and json:
        raise UsageError("errors: expected one of --csv and --json, got both: each takes stdout")
    found = failed_rows_of(open_reader(options.store, endpoint_url=options.endpoint_url))
    if options.csv:
        emit_text(to_csv(found))
        return
    show(describe_failures(found) or "no volume failed")
    if json:
        emit_json({"errors": found})


@dataclass(frozen=True, kw_only=True)
class RetryOptions(StoreOptions):
    """Which error rows are tried again."""

    classes: Annotated[
        str | None,
        typer.Option(
            help="Error classes such as FetchError,ShortPixelData, or all.", show_default="the transient ones"
        ),
    ] = None


@verb(store_commands)
def retry(options: RetryOptions, *, json: Json = False) -> None:
    """Lift the quarantine of error rows, so that the next run tries them: by default those that may fare better.

    Example: extract-embeddings retry --store ./store --classes FetchError,ShortPixelData
    """
    from extract.retry import describe_lifted, lift_classes

    found = lift_classes(options.store, options.classes, endpoint_url=options.endpoint_url)
    show(describe_lifted(found, options.store))
    if json:
        emit_json(found)


@dataclass(frozen=True, kw_only=True)
class DiffOptions(Options):
    """Two stores."""

    store_a: Annotated[str, typer.Argument(help="A store: a folder or s3://bucket/prefix.")]
    store_b: Annotated[str, typer.Argument(help="Another store.")]
    endpoint_url: EndpointUrl = None


@verb(store_commands)
def diff(options: DiffOptions, *, json: Json = False) -> None:
    """Compare two stores row by row, joined by key: what only one has, what differs and by how much.

    Example: extract-embeddings diff ./store ./other-store
    """
    from embeddings_store.diff import diff_stores

    found = diff_stores(options.store_a, options.store_b, endpoint_url=options.endpoint_url)
    show("\n".join(f"{name}: {value}" for name, value in found.items()))
    if json:
        emit_json(found)
