"""Options that several commands of finetune share, with their help."""

from pathlib import Path
from typing import Annotated

import typer

# Headings of the groups of options in --help.
SOURCE = "What to learn from"
ENCODER = "Encoder"
TRAINING = "Training"
COMPUTING = "Computing"
SEARCH = "Search"
JUDGING = "Judging"
SAYING = "Results"

Bucket = Annotated[
    str | None, typer.Option(help="Bucket name, s3://bucket/prefix, or a local folder.", rich_help_panel=SOURCE)
]
LookBucket = Annotated[
    str | None,
    typer.Option(
        help="Where the run's volumes are; not needed to judge an earlier look again.", rich_help_panel=SOURCE
    ),
]
Table = Annotated[Path | None, typer.Option(help="participants.tsv", rich_help_panel=SOURCE)]
Prefix = Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.", rich_help_panel=SOURCE)]
Endpoint = Annotated[str | None, typer.Option(help="S3 endpoint, where it is not AWS.", rich_help_panel=SOURCE)]
Store = Annotated[
    str | None,
    typer.Option(
        help="Embeddings of the same encoder: the stage of the head then encodes nothing.", rich_help_panel=SOURCE
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N volumes of the listing.", rich_help_panel=SOURCE)
]
TaskName = Annotated[
    str,
    typer.Option(help="four-class, healthy-vs-rest, medicated-vs-not or insulin-vs-rest", rich_help_panel=SOURCE),
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Encoder to start from: .pt or .safetensors.", rich_help_panel=ENCODER)
]
RandomEncoder = Annotated[
    str | None, typer.Option(help="random:tiny or random:base[,seed=N]: from scratch.", rich_help_panel=ENCODER)
]
Heads = Annotated[
    int | None, typer.Option(help="Attention heads, where the checkpoint does not say.", rich_help_panel=ENCODER)
]
Interpolate = Annotated[
    bool,
    typer.Option(
        "--interpolate", help="Resize the position table to --image-size instead of refusing.", rich_help_panel=ENCODER
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(help="D,H,W in voxels.", show_default="what the encoder was made for", rich_help_panel=ENCODER),
]
Stages = Annotated[
    str,
    typer.Option(
        help="head: only the head; last: the last blocks, too; all: everything; or head,lora.", rich_help_panel=TRAINING
    ),
]
SearchedStages = Annotated[
    str,
    typer.Option(help="head, or head,last to search how deep to go, too.", rich_help_panel=SEARCH),
]
Config = Annotated[
    str | None,
    typer.Option(help="smoke, tpu-v4-32, or a YAML file (see a run's config.yaml).", rich_help_panel=TRAINING),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="KEY=VALUE over --config: stages.last.epochs=3, head.kind=mlp ...", rich_help_panel=TRAINING
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Epochs of every stage, over --config.", rich_help_panel=TRAINING)
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Volumes a step, over --config.", rich_help_panel=TRAINING)]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of head, order, augmentation and bootstrap.", rich_help_panel=TRAINING)
]
ParallelKind = Annotated[
    str | None,
    typer.Option(
        "--parallel",
        help="Of several processes: ddp, or fsdp, which also shares out gradients and AdamW's moments.",
        show_default="the recipe's, ddp",
        rich_help_panel=COMPUTING,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or xla.", rich_help_panel=COMPUTING)]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Keep preprocessed volumes here for later runs: 9 MB each at full size.", rich_help_panel=COMPUTING
    ),
]
Study = Annotated[
    Path,
    typer.Option(help="Folder of the search: its journal, and best.yaml for --config.", rich_help_panel=SEARCH),
]
Trials = Annotated[
    int,
    typer.Option(min=1, help="Finished trials to reach, earlier ones of the study included.", rich_help_panel=SEARCH),
]
Run = Annotated[Path, typer.Option(help="Folder of a finished run of finetune.", rich_help_panel=SOURCE)]
RunTable = Annotated[Path, typer.Option(help="participants.tsv, the one of the run.", rich_help_panel=SOURCE)]
Split = Annotated[
    str,
    typer.Option(help="test: unlocks it, and writes a line into the ledger beside the runs.", rich_help_panel=JUDGING),
]
Runs = Annotated[Path, typer.Option(help="Where run folders go.", rich_help_panel=SAYING)]
Json = Annotated[bool, typer.Option("--json", help="Print the result on stdout.", rich_help_panel=SAYING)]
