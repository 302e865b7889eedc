"""Options that commands of several packages share: one name, one meaning, one help text each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options

# Headings of the groups of options in --help.
SOURCE = "Which volumes"
ENCODER = "Which encoder, and what it sees"
IN_AND_OUT = "Input and output"
COMPUTING = "Where it is computed"
RESULTS = "Planning and results"

BUCKET_HELP = "Bucket name, s3://bucket/prefix, or a local folder."

EndpointUrl = Annotated[
    str | None,
    typer.Option(help="S3 endpoint of bucket and store, where it is not AWS.", rich_help_panel=IN_AND_OUT),
]
StoreAddress = Annotated[
    str, typer.Option(help="Embeddings: a folder or s3://bucket/prefix.", rich_help_panel=IN_AND_OUT)
]
StoreAddresses = Annotated[
    str | tuple[str, ...],
    typer.Option(
        help="Embeddings: a folder or s3://bucket/prefix. For several encoders repeat it, each as NAME=ADDRESS.",
        rich_help_panel=IN_AND_OUT,
    ),
]
Prefix = Annotated[str, typer.Option(help="Where the dataset begins inside the bucket.", rich_help_panel=SOURCE)]
ParticipantsTable = Annotated[Path, typer.Option(help="The dataset's participants.tsv.", rich_help_panel=IN_AND_OUT)]
Runs = Annotated[Path, typer.Option(help="Folder of finished runs; new ones go there.", rich_help_panel=IN_AND_OUT)]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.", rich_help_panel=COMPUTING)]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on stdout; everything else is on stderr.", rich_help_panel=RESULTS),
]


@dataclass(frozen=True, kw_only=True)
class StoreOptions(Options):
    """Which store."""

    store: StoreAddress
    endpoint_url: EndpointUrl = None
