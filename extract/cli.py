"""The command line `extract-embeddings`: it parses and calls; nobody imports it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embeddings_store.console import emit_json, new_app, run_command, say
from embeddings_store.errors import UsageError
from extract import command_options as given
from extract.store_commands import store_commands

if TYPE_CHECKING:
    from extract.options import ExtractOptions

app = new_app(
    """Encode every OCT volume of a bucket once, into a store that probes and reports read.

    Example: extract-embeddings --bucket eye-dataset --prefix ai-readi/dataset --endpoint-url https://s3.us-west-004.backblazeb2.com
    --checkpoint best.pt --store ./store

    Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or an AWS profile.

    An interrupted run goes on where it stopped: run the same command again.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done with error rows (see status), 130 or 143 stopped by
    SIGINT or SIGTERM.
    """
)


@app.callback(invoke_without_command=True)
def extract(
    context: typer.Context,
    bucket: given.Bucket = None,
    prefix: given.Prefix = "",
    endpoint_url: given.Endpoint = None,
    store: given.Stores = None,
    checkpoint: given.Checkpoints = None,
    encoder: given.RandomEncoders = None,
    heads: given.Heads = None,
    interpolate: given.Interpolate = False,
    which: given.Which = "context",
    image_size: given.ImageSize = None,
    preset: given.EncodersPreset = None,
    layers: given.Layers = "last",
    pool: given.Pool = "mean,max,std",
    tokens: given.Tokens = "full",
    token_dtype: given.TokenDtype = "float16",  # noqa: S107 - a type of numbers, no secret
    device: given.Device = "auto",
    precision: given.Precision = "fp32",
    batch_size: given.BatchSize = "auto",
    engine: given.EngineName = "local",
    ray_address: given.RayAddress = None,
    streams: given.Streams = 32,
    decoders: given.Decoders = "auto",
    writers: given.Writers = "auto",
    rank: given.RankNumber = None,
    ranks: given.RankCount = None,
    usd_per_hour: given.UsdPerHour = None,
    limit: given.Limit = None,
    allow_sop_class: given.AllowedClasses = None,
    where: given.Where = None,
    participants: given.Participants = None,
    refresh: given.Refresh = False,
    cache_dir: given.CacheDir = None,
    cache_gb: given.CacheGb = 50.0,
    partial_reads: given.PartialReads = "auto",
    views: given.ViewsToMake = 0,
    dry_run: given.DryRun = False,
    min_coverage: given.MinCoverage = 0.0,
    json: given.Json = False,
) -> None:
    """Encode a bucket."""
    if context.invoked_subcommand is not None:
        return
    if bucket is None or not store:
        missing = "--bucket" if bucket is None else "--store"
        raise UsageError(f"{missing} is missing: say where the volumes are and where embeddings go; see --help")
    from extract.options import parse_options
    from extract.pipeline import extract as run

    options = parse_options(
        **{name: value for name, value in context.params.items() if name not in ("json", "min_coverage", "dry_run")}
        | {"allow_sop_class": allow_sop_class or ()}
    )
    if dry_run:
        _show_plan(options, as_json=json)
        return
    _finish(run(options), as_json=json, min_coverage=min_coverage)


def _show_plan(options: "ExtractOptions", *, as_json: bool) -> None:
    from extract.dry_run import describe_plan, plan_run

    plan = plan_run(options)
    say(describe_plan(plan))
    if as_json:
        emit_json(plan)


def _finish(summary: dict[str, Any], *, as_json: bool, min_coverage: float) -> None:
    from extract.stop import exit_code_of
    from extract.summary import describe_summary, store_accounts

    say(describe_summary(summary))
    if as_json:
        emit_json(summary)
    stores = store_accounts(summary)
    if summary["stopped_by"] is not None:
        say(f"stopped by {summary['stopped_by']}: run the same command again, and it goes on where it stopped")
        raise typer.Exit(exit_code_of(summary["stopped_by"]))
    coverage = min(_coverage(store, summary["selected"]) for store in stores)
    if coverage < min_coverage:
        say(f"coverage: expected at least {min_coverage:.1%} of the selected volumes, got {coverage:.1%}")
    if any(store["errors"] for store in stores) or coverage < min_coverage:
        raise typer.Exit(3)


def _coverage(store: Mapping[str, Any], selected: int) -> float:
    """Give the fraction of the selected volumes that have a row; the further parts of one are no volumes."""
    volumes = selected - store["parts"]
    return float(store["committed"] / volumes) if volumes else 0.0


@app.command()
def preprocess(
    file: Annotated[Path, typer.Argument(help="A multi-frame OCT DICOM file.")],
    out: Annotated[Path, typer.Option(help="Where the float32 [1, D, H, W] array goes (.npy).")],
    preset: given.PresetName = "pretrain",
    image_size: Annotated[str, typer.Option(help="D,H,W in voxels.")] = "64,384,384",
    allow_sop_class: given.AllowedClasses = None,
) -> None:
    """Write exactly what the encoder would see of one file.

    Example: extract-embeddings preprocess scan.dcm --out scan.npy --image-size 64,384,384
    """
    from extract.allowed import parse_classes
    from extract.options import parse_image_size
    from extract.single import preprocess_file

    allowed = parse_classes(allow_sop_class or ())
    say(preprocess_file(file, out, preset=preset, image_size=parse_image_size(image_size), allowed=allowed))


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(help="A .dcm, or a preprocessed .npy: float32 [1,D,H,W] or [B,1,D,H,W].")],
    out: Annotated[Path, typer.Option(help="Where the tokens go: float32 [B, N, C] (.npy).")],
    checkpoint: given.Checkpoint = None,
    encoder: given.RandomEncoder = None,
    heads: given.Heads = None,
    interpolate: given.Interpolate = False,
    which: given.Which = "context",
    image_size: given.ImageSize = None,
    preset: given.EncodersPreset = None,
    device: given.Device = "auto",
    precision: given.Precision = "fp32",
    allow_sop_class: given.AllowedClasses = None,
) -> None:
    """Write the patch tokens of one file.

    Example: extract-embeddings encode scan.dcm --checkpoint best.pt --out tokens.npy
    """
    from extract.allowed import parse_classes
    from extract.options import EncoderChoice, parse_image_size, parse_which
    from extract.single import encode_file

    size = parse_image_size(image_size) if image_size else None
    choice = EncoderChoice(checkpoint, encoder, heads, interpolate, size, parse_which(which))
    allowed = parse_classes(allow_sop_class or ())
    say(encode_file(file, out, choice=choice, preset=preset, device=device, precision=precision, allowed=allowed))


@app.command()
def doctor(
    checkpoint: given.Checkpoint = None,
    encoder: given.RandomEncoder = None,
    heads: given.Heads = None,
    image_size: given.ImageSize = None,
    which: given.Which = "context",
    bucket: given.Bucket = None,
    prefix: given.Prefix = "",
    endpoint_url: given.Endpoint = None,
    store: Annotated[str | None, typer.Option(help="Try whether this store can be written.")] = None,
    device: given.Device = "auto",
    precision: given.Precision = "fp32",
    volumes: Annotated[int, typer.Option(min=1, help="Volumes of the bucket to try.")] = 4,
    export: Annotated[
        Path | None, typer.Option(help="Write the encoder in use as .safetensors, and read it back.")
    ] = None,
    json: given.Json = False,
) -> None:
    """Look before a long run: is the encoder trained, the device right, the bucket readable, the store writable?

    Example: extract-embeddings doctor --checkpoint best.pt --bucket eye-dataset --store ./store --device cuda

    Exit codes: 0 nothing failed (warnings included), 1 a check failed, 2 wrong usage.
    """
    from extract.doctor.options import parse_doctor
    from extract.doctor.run import examine
    from extract.doctor.show import print_report

    options = parse_doctor(
        checkpoint=checkpoint, encoder=encoder, heads=heads, image_size=image_size, which=which, bucket=bucket,
        prefix=prefix, endpoint_url=endpoint_url, store=store, device=device, precision=precision, volumes=volumes,
        export=export,
    )  # fmt: skip
    report = examine(options, say)
    print_report(report)
    if json:
        emit_json(report.to_dict())
    if report.failed:
        raise typer.Exit(1)


app.add_typer(store_commands)


def main() -> None:
    """Run extract-embeddings."""
    run_command(app)
