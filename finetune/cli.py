"""Console script ``finetune``: parses and calls; heavy imports live inside the commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embeddings_store.console import emit_json, new_app, run_command, say

if TYPE_CHECKING:
    from finetune.train import Finetuned

app = new_app("Train the encoder end to end on the volumes of a bucket, and judge it honestly. Research use only.")

Bucket = Annotated[str | None, typer.Option(help="Bucket name, s3://bucket/prefix, or a local folder.")]
Table = Annotated[Path | None, typer.Option(help="participants.tsv")]
Prefix = Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.")]
Endpoint = Annotated[str | None, typer.Option(help="S3 endpoint, where it is not AWS.")]
Store = Annotated[
    str | None, typer.Option(help="Embeddings of the same encoder: the stage of the head then encodes nothing.")
]
Checkpoint = Annotated[Path | None, typer.Option(help="Encoder to start from: .pt or .safetensors.")]
RandomEncoder = Annotated[str | None, typer.Option(help="random:tiny or random:base[,seed=N]: from scratch.")]
Heads = Annotated[int | None, typer.Option(help="Attention heads, where the checkpoint does not say.")]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Resize the position table to --image-size instead of refusing.")
]
ImageSize = Annotated[str | None, typer.Option(help="D,H,W in voxels. [default: the encoder's]")]
TaskName = Annotated[str, typer.Option(help="four-class, healthy-vs-rest, medicated-vs-not or insulin-vs-rest")]
Stages = Annotated[
    str, typer.Option(help="head: only the head; last: the last blocks, too; all: everything; or head,lora.")
]
Config = Annotated[str | None, typer.Option(help="smoke, tpu-v4-32, or a YAML file (see a run's config.yaml).")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE over --config: stages.last.epochs=3, head.kind=mlp ...")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or xla.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of head, order, augmentation and bootstrap.")]
Runs = Annotated[Path, typer.Option(help="Where run folders go.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N volumes of the listing.")]
CacheDir = Annotated[
    Path | None, typer.Option(help="Keep preprocessed volumes here for later runs: 9 MB each at full size.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result on stdout.")]


@app.callback(invoke_without_command=True)
def finetune(
    context: typer.Context,
    *,
    bucket: Bucket = None,
    participants: Table = None,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    store: Store = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    image_size: ImageSize = None,
    task: TaskName = "four-class",
    stages: Stages = "head,last,all",
    config: Config = None,
    change: Set = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every stage, over --config.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Volumes a step, over --config.")] = None,
    device: Device = "auto",
    limit: Limit = None,
    seed: Seed = 0,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")] = 2000,
    runs: Runs = Path("runs"),
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Train in stages, keep what does best on val, and write a run folder; test stays locked.

    The same command goes on where it was killed. Under torchrun, each process takes its share of every batch.
    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done, but some volumes could not be used.
    """
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from finetune.options import parse_options
    from finetune.processes import open_processes
    from finetune.train import finetune as run_finetune

    options = parse_options(**{name: value for name, value in context.params.items() if name != "json"})
    done = run_finetune(options, now=datetime.now(UTC), tell=say, processes=open_processes())
    if done is not None:
        _finish(done, as_json=json)


def _finish(done: "Finetuned", *, as_json: bool) -> None:
    from classify.summary import print_summary
    from finetune.train import OPTIMISTIC

    print_summary(done.record)
    say(f"stages: {done.record.parameters['stages_compared']['note']}")
    say(OPTIMISTIC)
    for error, count in sorted(done.failures.items()):
        say(f"not used: {count:,} volumes with {error}")
    say(f"run: {done.folder}")
    if as_json:
        emit_json(done.record.to_dict() | {"path": str(done.folder), "errors": done.failures})
    if done.failures:
        raise typer.Exit(3)


@app.command()
def tune(
    context: typer.Context,
    *,
    study: Annotated[Path, typer.Option(help="Folder of the search: its journal, and best.yaml for --config.")],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials to reach, earlier ones of the study included.")],
    bucket: Bucket = None,
    participants: Table = None,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    store: Store = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    image_size: ImageSize = None,
    task: TaskName = "four-class",
    stages: Annotated[str, typer.Option(help="head, or head,last to search how deep to go, too.")] = "head,last",
    config: Config = None,
    change: Set = None,
    device: Device = "auto",
    limit: Limit = None,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Search rates, batch size, head and depth on held-back participants of train; val and test are not looked at.

    The same command goes on where it was stopped.
    """
    from finetune.options import parse_options
    from finetune.tune import tune as search

    words = {name: value for name, value in context.params.items() if name not in {"study", "trials", "json"}}
    found = search(parse_options(**words), trials=trials, folder=study, tell=say)
    say(f"best of {found.record['trials']} trials: {found.record['best']['value']:.3f}; use --config {study}/best.yaml")
    if json:
        emit_json(found.record | {"path": str(found.folder)})


@app.command()
def montage(
    files: Annotated[list[Path], typer.Argument(help="A multi-frame OCT DICOM file; a second one is mixed into it.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png).")],
    config: Config = None,
    change: Set = None,
    image_size: Annotated[str, typer.Option(help="D,H,W in voxels.")] = "64,384,384",
    seed: Seed = 0,
) -> None:
    """Draw what augmentation does to a volume: each change alone, then volumes as training sees them."""
    from extract.options import parse_image_size
    from finetune.augment.look import draw_files
    from finetune.recipe import load_config

    augment = load_config(config, changes=change or ()).augment
    draw_files(files, out, augment, image_size=parse_image_size(image_size), seed=seed)
    say(f"wrote {out}")


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
