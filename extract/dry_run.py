"""--dry-run: what a run would read, move, cost and write, and what a device needs of this host; nothing is written.

Fetched are the listing, its tables, and a few volumes, to time them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any

from embeddings_store.arrays import arrays_of
from embeddings_store.errors import StoreError
from embeddings_store.machine import usable_cores
from embeddings_store.room import require_room, row_files
from embeddings_store.space import EmbeddingSpace
from extract.all_slices import with_frames_of_bucket
from extract.bucket.prices import price_reading
from extract.bucket.report import report_bucket
from extract.encode import build_space
from extract.encoder.encoder import Encoder
from extract.encoder.onnx_file import OnnxModule
from extract.encoder.open import open_encoder
from extract.load import new_loader, raw_bytes
from extract.needs import STATED_FLOP_PER_S, Needs, needs_of
from extract.options import ExtractOptions
from extract.pooling import parse_token_grid
from extract.preset import Recipe
from extract.sample_times import SampleTimes, time_samples
from extract.selection import Selection, select_volumes
from extract.stages import StageClock
from extract.summary import describe_catalogue, describe_look, describe_skipped
from extract.targets import preset_in_run, require_volumes
from extract.views import Views

STATED_BYTES_PER_S = 125e6
"""A link of 1 Gbit/s, stated and not measured: what a single host can usually take from a bucket."""


def plan_run(options: ExtractOptions) -> dict[str, Any]:
    """Say what ``extract`` would do with the same options, had the store no row yet.

    The encoder is opened, since its width decides the size of a row. Raises: as ``extract`` does before it begins.
    """
    selection = select_volumes(options, now_ns=time_ns())
    source, options = selection.source, with_frames_of_bucket(options, selection)
    sizes = [raw_bytes(ref) for ref in selection.refs]
    size_bytes = sum(sizes)
    encoders = [open_encoder(**output.choice.arguments(), slices=options.slice_count) for output in options.outputs]
    require_volumes(encoders, selection.catalogue.listing)
    spaces = [space_of(options, encoder) for encoder in encoders]
    row_bytes = sum(array.row_bytes for space in spaces for array in arrays_of(space).all)
    kinds = Counter((ref.device, ref.protocol) for ref in selection.refs)
    dollars, list_requests = _price(selection, options, size_bytes), source.counts.list_requests
    timed = [_time(selection, options, encoder) for encoder in encoders]
    return {
        "dry_run": True,
        "listed": selection.catalogue.listing.listed,
        "selected": len(selection.refs),
        "skipped": sum(selection.skipped.values()),
        "skipped_reasons": selection.skipped,
        "skipped_examples": describe_skipped(selection.catalogue),
        "volumes": [
            {"device": device, "protocol": protocol, "volumes": n} for (device, protocol), n in sorted(kinds.items())
        ],
        "bytes": size_bytes,
        "get_requests": _requests(selection),
        "transfer_s": {
            "at_least": round(size_bytes / STATED_BYTES_PER_S, 1),
            "rate": f"stated, not measured: {STATED_BYTES_PER_S / 1e6:.0f} MB/s (1 Gbit/s)",
            "encoding": "absent: how fast the encoder is here is not known before a run (try one with --limit 20)",
        },
        "encoders": [
            _work(encoder, output.store, len(selection.refs), 1 + options.views, size_bytes, times)
            for encoder, output, times in zip(encoders, options.outputs, timed, strict=True)
        ],
        "dollars": dollars,
        "row_bytes": row_bytes,
        "store_bytes": row_bytes * len(selection.refs),
        "store_files": sum(row_files(space) for space in spaces) * len(selection.refs),
        "refusal": _refusal(options, spaces, selection),
        "bucket_report": report_bucket(selection.catalogue),
        "catalogue": describe_catalogue(selection.catalogue),
        "list_requests": list_requests,
    }


def _requests(selection: Selection) -> int:
    """Count the objects of all volumes: of a folder of pictures, each is a request."""
    return sum(len(ref.members) or 1 for ref in selection.refs)


def _price(selection: Selection, options: ExtractOptions, size_bytes: int) -> dict[str, Any]:
    counts = selection.source.counts
    requests = _requests(selection) + counts.get_requests
    return price_reading(
        options.endpoint_url, get_requests=requests, list_requests=counts.list_requests, size_bytes=size_bytes
    )


def _refusal(options: ExtractOptions, spaces: Sequence[EmbeddingSpace], selection: Selection) -> str | None:
    """Say why the run would not begin, where a store's disk is too small for it."""
    try:
        for output, space in zip(options.outputs, spaces, strict=True):
            require_room(output.store, space, [ref.key for ref in selection.refs])
    except StoreError as error:
        return str(error)
    return None


def _time(selection: Selection, options: ExtractOptions, encoder: Encoder) -> SampleTimes:
    """Time volumes as this encoder's would be made."""
    recipe = Recipe(preset_in_run(encoder, options), encoder.architecture.image_size)
    loader = new_loader(
        selection.source, recipe, StageClock(),
        partial_reads=options.partial_reads, views=options.views, allowed=options.allowed_classes,
    )  # fmt: skip
    return time_samples(loader, selection.refs)


def _work(
    encoder: Encoder, store: str, volumes: int, views: int, size_bytes: int, times: SampleTimes
) -> dict[str, Any]:
    """Say what one encoder would compute, how long that takes at a stated speed, and what a device needs meanwhile.

    views: forward passes of a volume. An ONNX graph does not tell its operations.
    """
    family, flop = encoder.architecture.family, encoder.architecture.flop_per_volume
    needs = needs_of(encoder, size_bytes / volumes, times.seconds, forwards=views) if volumes else None
    said = {"store": store, "family": family, "timed": times.to_dict() | {"words": times.describe()}}
    if isinstance(encoder.module, OnnxModule):
        return said | {"absent": "an ONNX graph does not tell its operations"}
    return said | {
        "tflop_per_volume": float(f"{flop / 1e12:.3g}"),
        "seconds": round(volumes * views * flop / STATED_FLOP_PER_S, 1),
        "rate": f"stated, not measured: {STATED_FLOP_PER_S / 1e12:.0f} TFLOP/s",
        "needs": needs.to_dict() if needs else {"absent": "no volume was selected"},
    }


def space_of(options: ExtractOptions, encoder: Encoder) -> EmbeddingSpace:
    """Name the embedding space of one store of the run, which decides the size of a row."""
    return build_space(
        encoder,
        preset_in_run(encoder, options).to_dict(),
        layers=options.layers,
        pools=options.pools,
        token_grid=parse_token_grid(options.tokens, encoder.architecture.grid),
        precision=options.precision,
        token_dtype=options.token_dtype,
        views=Views(options.views) if options.views else None,
    )


def describe_plan(plan: Mapping[str, Any]) -> str:
    """Put a plan into a few lines for a person."""
    transfer, dollars = plan["transfer_s"], plan["dollars"]
    kinds = "\n".join(f"  {kind['device']} {kind['protocol']}: {kind['volumes']:,}" for kind in plan["volumes"])
    price = (
        f"at most ${dollars['at_most']:,.2f} (B2 prices of {dollars['looked_up']}, {dollars['source']})"
        if "at_most" in dollars
        else f"dollars absent: {dollars['absent']}"
    )
    refusal = f"the run would be refused: {plan['refusal']}\n" if plan["refusal"] else ""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in plan["skipped_reasons"].items())
    return (
        f"{describe_look(plan)}\n"
        f"would encode {plan['selected']:,} volumes of {plan['listed']:,} objects "
        f"({plan['skipped']:,} skipped{': ' if reasons else ''}{reasons}):\n{kinds}\n"
        + "".join(f"skipped, {reason}: {said}\n" for reason, said in plan["skipped_examples"].items())
        + f"{_size(plan['bytes'])} in {plan['get_requests']:,} requests; "
        f"transfer takes {transfer['at_least']:,.0f} s or more ({transfer['rate']}); encoding {transfer['encoding']}\n"
        + "".join(_describe_work(one) for one in plan["encoders"])
        + f"{price}\nthe store would grow by {_size(plan['store_bytes'])} in {plan['store_files']:,} files "
        f"({_size(plan['row_bytes'])} a volume; rows that it already has are not subtracted)\n"
        f"{refusal}dry run: nothing was written to the store"
    )


def _describe_work(work: Mapping[str, Any]) -> str:
    timed = f"{work['timed']['words']}\n" if work["timed"]["tried"] else ""
    if "absent" in work:
        return f"{work['family']}: cost absent: {work['absent']}\n{timed}"
    here = f"; this machine has {usable_cores()} cores"
    needs = f"{Needs(**work['needs']).describe()}{here}\n" if "absent" not in work["needs"] else ""
    return (
        f"{work['family']}: {work['tflop_per_volume']:,.3g} TFLOP a volume, {work['seconds']:,.0f} s in all "
        f"({work['rate']})\n{timed}{needs}"
    )


def _size(size_bytes: int) -> str:
    """Put a size into the unit that suits it, in powers of ten."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.1f} kB"
