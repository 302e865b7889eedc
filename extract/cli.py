"""The command line `extract-embeddings`: it parses and calls; nobody imports it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embeddings_store.console import emit_json, new_app, run_command, say
from embeddings_store.errors import UsageError
from extract.store_commands import store_commands

if TYPE_CHECKING:
    from extract.options import ExtractOptions

app = new_app(
    """Encode every OCT volume of a bucket once, into a store that probes and reports read.

    extract-embeddings --bucket eye-dataset --prefix ai-readi/dataset --endpoint-url https://s3.us-west-004.backblazeb2.com
    --checkpoint best.pt --store ./store

    Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or an AWS profile.

    An interrupted run goes on where it stopped: run the same command again.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done with error rows (see status).
    """
)

Bucket = Annotated[str | None, typer.Option(help="Bucket name, s3://bucket/prefix, or a local folder.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint-url", help="S3 endpoint of bucket and store, where it is not AWS.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Encoder weights: a trainer's .pt, .safetensors, or a V-JEPA 2 folder."),
]
RandomEncoder = Annotated[
    str | None,
    typer.Option("--encoder", help="random:tiny or random:base[,seed=N]: untrained, for demos and as a baseline."),
]
Heads = Annotated[int | None, typer.Option(help="Attention heads, where the checkpoint does not say.")]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Take another --image-size than the encoder's own, instead of refusing.")
]
Which = Annotated[str, typer.Option(help="Which encoder of the checkpoint: context or target.")]
ImageSize = Annotated[
    str | None, typer.Option(help="Encoder input D,H,W in voxels. [default: what the encoder was made for]")
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Only matching volumes, such as: device=topcon_triton,zeiss_cirrus and eye=L and frames>=64. "
        "Fields: device, protocol, eye, site, participant, split, frames."
    ),
]
Participants = Annotated[
    Path | None, typer.Option(help="Only these participants: a participants.tsv, or a file of one id a line.")
]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="List the bucket anew, whatever the catalogue of an earlier start says.")
]
CacheDir = Annotated[
    Path | None, typer.Option(help="Keep raw objects here for the next run; patients' data, so mind the disk.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be read, moved, paid and written, and do none of it.")
]
MinCoverage = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Exit with 3 when a smaller fraction of volumes has a row.")
]
PresetName = Annotated[str, typer.Option("--preset", help="Preprocessing: pretrain, finetune_v0, or a YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; everything else is on stderr.")]


@app.callback(invoke_without_command=True)
def extract(
    context: typer.Context,
    bucket: Bucket = None,
    prefix: Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.")] = "",
    endpoint_url: Endpoint = None,
    store: Annotated[str | None, typer.Option(help="Where embeddings go: a folder or s3://bucket/prefix.")] = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    which: Which = "context",
    image_size: ImageSize = None,
    preset: PresetName = "pretrain",
    layers: Annotated[str, typer.Option(help="Blocks from 1, or last (after the final norm): 3,6,last.")] = "last",
    pool: Annotated[str, typer.Option(help="Pooled vectors to store: any of mean,max,std.")] = "mean,max,std",
    tokens: Annotated[str, typer.Option(help="Patch tokens to store: full, a reduced grid DxHxW, or none.")] = "full",
    token_dtype: Annotated[str, typer.Option(help="float16, or int8: half the room, a little less exact.")] = "float16",  # noqa: S107 - a type of numbers, no secret
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or xla.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    batch_size: Annotated[str, typer.Option(help="Volumes a forward pass, or auto.")] = "auto",
    streams: Annotated[int, typer.Option(min=1, help="Objects fetched at once.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after the first N volumes of the listing.")] = None,
    where: Where = None,
    participants: Participants = None,
    refresh: Refresh = False,
    cache_dir: CacheDir = None,
    cache_gb: Annotated[float, typer.Option(min=0.001, help="Size of --cache-dir in 10^9 bytes.")] = 50.0,
    dry_run: DryRun = False,
    min_coverage: MinCoverage = 0.0,
    json: Json = False,
) -> None:
    """Encode a bucket."""
    if context.invoked_subcommand is not None:
        return
    if bucket is None or store is None:
        missing = "--bucket" if bucket is None else "--store"
        raise UsageError(f"{missing} is missing: say where the volumes are and where embeddings go; see --help")
    from extract.options import parse_options
    from extract.pipeline import extract as run

    options = parse_options(
        **{name: value for name, value in context.params.items() if name not in ("json", "min_coverage", "dry_run")}
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
    from extract.summary import describe_summary

    say(describe_summary(summary))
    if as_json:
        emit_json(summary)
    coverage = summary["committed"] / summary["selected"] if summary["selected"] else 0.0
    if coverage < min_coverage:
        say(f"coverage: expected at least {min_coverage:.1%} of the selected volumes, got {coverage:.1%}")
    if summary["errors"] or coverage < min_coverage:
        raise typer.Exit(3)


@app.command()
def preprocess(
    file: Annotated[Path, typer.Argument(help="A multi-frame OCT DICOM file.")],
    out: Annotated[Path, typer.Option(help="Where the float32 [1, D, H, W] array goes (.npy).")],
    preset: PresetName = "pretrain",
    image_size: Annotated[str, typer.Option(help="D,H,W in voxels.")] = "64,384,384",
) -> None:
    """Write exactly what the encoder would see of one file."""
    from extract.options import parse_image_size
    from extract.single import preprocess_file

    say(preprocess_file(file, out, preset=preset, image_size=parse_image_size(image_size)))


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(help="A .dcm, or a preprocessed .npy: float32 [1,D,H,W] or [B,1,D,H,W].")],
    out: Annotated[Path, typer.Option(help="Where the tokens go: float32 [B, N, C] (.npy).")],
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    which: Which = "context",
    image_size: ImageSize = None,
    preset: PresetName = "pretrain",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or xla.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
) -> None:
    """Write the patch tokens of one file."""
    from extract.options import EncoderChoice, parse_image_size, parse_which
    from extract.single import encode_file

    size = parse_image_size(image_size) if image_size else None
    choice = EncoderChoice(checkpoint, encoder, heads, interpolate, size, parse_which(which))
    say(encode_file(file, out, choice=choice, preset=preset, device=device, precision=precision))


@app.command()
def doctor(
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    image_size: ImageSize = None,
    which: Which = "context",
    bucket: Bucket = None,
    prefix: Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.")] = "",
    endpoint_url: Endpoint = None,
    store: Annotated[str | None, typer.Option(help="Try whether this store can be written.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or xla.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    volumes: Annotated[int, typer.Option(min=1, help="Volumes of the bucket to try.")] = 4,
    export: Annotated[
        Path | None, typer.Option(help="Write the encoder in use as .safetensors, and read it back.")
    ] = None,
    json: Json = False,
) -> None:
    """Look before a long run: is the encoder trained, the device right, the bucket readable, the store writable?

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
