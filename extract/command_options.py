"""The options of extract-embeddings: what each is called, takes and says of itself."""

from pathlib import Path
from typing import Annotated

import typer

# Headings of the groups of options in --help.
SOURCE = "Which volumes"
ENCODER = "Which encoder, and what it sees"
KEPT = "What is stored, and where"
COMPUTING = "Where it is computed"
FETCHING = "Fetching, decoding, writing"
SAYING = "Planning and results"

Bucket = Annotated[
    str | None, typer.Option(help="Bucket name, s3://bucket/prefix, or a local folder.", rich_help_panel=SOURCE)
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url", help="S3 endpoint of bucket and store, where it is not AWS.", rich_help_panel=SOURCE
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Encoder weights: a trainer's .pt, .safetensors, or a V-JEPA 2 folder.", rich_help_panel=ENCODER),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="Encoder weights: a trainer's .pt, .safetensors, or a V-JEPA 2 folder. Repeat it, with a --store for "
        "each: one pass over the bucket feeds them all.",
        rich_help_panel=ENCODER,
    ),
]
RandomEncoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        help="random:tiny or random:base[,seed=N]: untrained, for demos and as a baseline. May be repeated.",
        rich_help_panel=ENCODER,
    ),
]
Stores = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        help="Where embeddings go: a folder or s3://bucket/prefix; one for each --checkpoint, then each --encoder.",
        rich_help_panel=KEPT,
    ),
]
RandomEncoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="random:tiny or random:base[,seed=N]: untrained, for demos and as a baseline.",
        rich_help_panel=ENCODER,
    ),
]
Heads = Annotated[
    int | None, typer.Option(help="Attention heads, where the checkpoint does not say.", rich_help_panel=ENCODER)
]
Interpolate = Annotated[
    bool,
    typer.Option(
        "--interpolate",
        help="Take another --image-size than the encoder's own, instead of refusing.",
        rich_help_panel=ENCODER,
    ),
]
Which = Annotated[
    str, typer.Option(help="Which encoder of the checkpoint: context or target.", rich_help_panel=ENCODER)
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        help="Encoder input D,H,W in voxels.", show_default="what the encoder was made for", rich_help_panel=ENCODER
    ),
]
AllowedClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-sop-class",
        help="Take objects of this SOP class (UID or DICOM's name) too, though they are no structural OCT; repeatable.",
        rich_help_panel=SOURCE,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Only matching volumes, such as: device=topcon_triton,zeiss_cirrus and eye=L and frames>=64. "
        "Fields: device, protocol, eye, site, participant, split, frames.",
        rich_help_panel=SOURCE,
    ),
]
Participants = Annotated[
    Path | None,
    typer.Option(
        help="Only these participants: a participants.tsv, or a file of one id a line.", rich_help_panel=SOURCE
    ),
]
Refresh = Annotated[
    bool,
    typer.Option(
        "--refresh",
        help="List the bucket anew now; the listing of an earlier start is used for a day.",
        rich_help_panel=SOURCE,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Keep raw objects here for the next run; patients' data, so mind the disk.", rich_help_panel=FETCHING
    ),
]
ViewsToMake = Annotated[
    int,
    typer.Option(
        min=0,
        help="Augmented views of each volume whose pooled vectors are kept beside it, for heads to learn from; "
        "each costs one more forward",
        rich_help_panel=KEPT,
    ),
]
PartialReads = Annotated[
    str,
    typer.Option(
        help="Fetch only the header and the frames in use: on, off, or auto: where that is faster.",
        rich_help_panel=FETCHING,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be read, moved, paid and written, and do none of it.", rich_help_panel=SAYING
    ),
]
MinCoverage = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Exit with 3 when a smaller fraction of volumes has a row.", rich_help_panel=SAYING
    ),
]
PresetName = Annotated[
    str, typer.Option("--preset", help="Preprocessing: pretrain, finetune_v0, or a YAML file.", rich_help_panel=ENCODER)
]
EncodersPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Preprocessing: pretrain, finetune_v0, or a YAML file.",
        show_default="pretrain, for encoders that were trained with it",
        rich_help_panel=ENCODER,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on stdout; everything else is on stderr.", rich_help_panel=SAYING),
]
Prefix = Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.", rich_help_panel=SOURCE)]
Layers = Annotated[
    str, typer.Option(help="Blocks from 1, or last (after the final norm): 3,6,last.", rich_help_panel=KEPT)
]
Pool = Annotated[str, typer.Option(help="Pooled vectors to store: any of mean,max,std.", rich_help_panel=KEPT)]
Tokens = Annotated[
    str, typer.Option(help="Patch tokens to store: full, a reduced grid DxHxW, or none.", rich_help_panel=KEPT)
]
TokenDtype = Annotated[
    str, typer.Option(help="float16, or int8: half the room, a little less exact.", rich_help_panel=KEPT)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or xla.", rich_help_panel=COMPUTING)]
Precision = Annotated[str, typer.Option(help="fp32 or bf16.", rich_help_panel=COMPUTING)]
BatchSize = Annotated[str, typer.Option(help="Volumes a forward pass, or auto.", rich_help_panel=COMPUTING)]
EngineName = Annotated[
    str,
    typer.Option(help="local (this machine), or ray (a Ray cluster; needs the extra ray).", rich_help_panel=COMPUTING),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Of a running Ray cluster, such as 10.0.0.1:6379, or auto.",
        show_default="Ray's own",
        rich_help_panel=COMPUTING,
    ),
]
Streams = Annotated[int, typer.Option(min=1, help="Objects fetched at once.", rich_help_panel=FETCHING)]
Decoders = Annotated[str, typer.Option(help="Volumes decoded at once, or auto: one a core.", rich_help_panel=FETCHING)]
Writers = Annotated[str, typer.Option(help="Rows written at once, or auto.", rich_help_panel=FETCHING)]
RankNumber = Annotated[
    int | None,
    typer.Option(
        help="Which of --ranks processes this is, from 0.",
        show_default="SLURM or a TPU pod says",
        rich_help_panel=COMPUTING,
    ),
]
RankCount = Annotated[
    int | None, typer.Option(help="How many processes share the volumes of one bucket.", rich_help_panel=COMPUTING)
]
UsdPerHour = Annotated[
    float | None,
    typer.Option(
        min=0.0, help="What this machine costs an hour, for the cost of 1,000 volumes.", rich_help_panel=SAYING
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Stop after the first N volumes of the listing.", rich_help_panel=SOURCE)
]
CacheGb = Annotated[float, typer.Option(min=0.001, help="Size of --cache-dir in 10^9 bytes.", rich_help_panel=FETCHING)]
