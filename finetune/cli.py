"""Console script ``finetune``: parses and calls; heavy imports live inside the command."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embeddings_store.console import emit_json, new_app, run_command, say

if TYPE_CHECKING:
    from finetune.train import Finetuned

app = new_app("Train the encoder end to end on the volumes of a bucket, and judge it honestly. Research use only.")

Bucket = Annotated[str, typer.Option(help="Bucket name, s3://bucket/prefix, or a local folder.")]
Table = Annotated[Path, typer.Option(help="participants.tsv")]
Prefix = Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.")]
Endpoint = Annotated[str | None, typer.Option(help="S3 endpoint, where it is not AWS.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Encoder to start from: .pt or .safetensors.")]
RandomEncoder = Annotated[str | None, typer.Option(help="random:tiny or random:base[,seed=N]: from scratch.")]
Heads = Annotated[int | None, typer.Option(help="Attention heads, where the checkpoint does not say.")]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Resize the position table to --image-size instead of refusing.")
]
ImageSize = Annotated[str | None, typer.Option(help="D,H,W in voxels. [default: the encoder's]")]
TaskName = Annotated[str, typer.Option(help="four-class, healthy-vs-rest, medicated-vs-not or insulin-vs-rest")]
Stages = Annotated[str, typer.Option(help="head: only the head; last: the last blocks, too; all: everything.")]
Config = Annotated[Path | None, typer.Option(help="YAML with keys of the recipe (see a run's config.yaml).")]
CacheDir = Annotated[
    Path | None, typer.Option(help="Keep preprocessed volumes here for later runs: 38 MB each at full size.")
]


@app.command()
def finetune(
    *,
    bucket: Bucket,
    participants: Table,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    image_size: ImageSize = None,
    task: TaskName = "four-class",
    stages: Stages = "head,last,all",
    config: Config = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every stage, over --config.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Volumes a step, over --config.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N volumes of the listing.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the head, the order and the bootstrap.")] = 0,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")] = 2000,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    cache_dir: CacheDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run record on stdout.")] = False,
) -> None:
    """Train in stages, keep what does best on val, and write a run folder; test stays locked.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done, but some volumes could not be used.
    """
    from datetime import UTC, datetime

    from extract.options import EncoderChoice, parse_image_size
    from finetune.config import load_config
    from finetune.stages import parse_stages
    from finetune.train import FinetuneOptions
    from finetune.train import finetune as run_finetune

    size = parse_image_size(image_size) if image_size else None
    options = FinetuneOptions(
        choice=EncoderChoice(checkpoint, encoder, heads, interpolate, size),
        bucket=bucket,
        participants=participants,
        config=load_config(config, epochs=epochs, batch_size=batch_size),
        prefix=prefix,
        endpoint_url=endpoint_url,
        task=task,
        stages=parse_stages(stages),
        device=device,
        limit=limit,
        seed=seed,
        replicates=replicates,
        runs=runs,
        cache_dir=cache_dir,
        command=("finetune", *sys.argv[1:]),
    )
    _finish(run_finetune(options, now=datetime.now(UTC), tell=say), as_json=json)


def _finish(done: "Finetuned", *, as_json: bool) -> None:
    from classify.summary import print_summary
    from finetune.train import OPTIMISTIC

    print_summary(done.record)
    say(OPTIMISTIC)
    for error, count in sorted(done.failures.items()):
        say(f"not used: {count:,} volumes with {error}")
    say(f"run: {done.folder}")
    if as_json:
        emit_json(done.record.to_dict() | {"path": str(done.folder), "errors": done.failures})
    if done.failures:
        raise typer.Exit(3)


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
