"""What a run is asked to do, option by option, and the name of everything that decides its weights."""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from classify.options import Measurements, NearCopies, Pretrained, RayAddress, Replicates, Resplit, SearchEngine
from classify.question_options import TargetOptions, TaskName
from classify.run_options import TestOptions
from embeddings_store.command_line import Text
from embeddings_store.errors import UsageError
from embeddings_store.regular_file import require_regular
from embeddings_store.shared_options import (
    BUCKET_HELP,
    COMPUTING,
    RESULTS,
    SOURCE,
    EndpointUrl,
    Prefix,
    Runs,
)
from embeddings_store.terminal.provenance import package_versions
from extract.device_options import Compiled, Gpus
from extract.encoder_options import DeviceName, EncoderChoice
from extract.layouts.options import LayoutOptions
from extract.options import Limit
from extract.preset import PRESETS
from finetune.recipe.stage_names import STAGES, parse_stages
from finetune.tracking.places import Track, parse_track

if TYPE_CHECKING:
    from extract.encoder.encoder import Encoder
    from finetune.recipe.config import FinetuneConfig

# Headings of the groups of options in --help that only fine-tuning has.
TRAINING = "Training"
SEARCH = "Search"

PRESET = PRESETS["pretrain"]

NO_WEIGHT = ("save_every_steps", "workers", "parallel", "micro_batch_size", "recompute")
"""Keys of the recipe that change no weight but by rounding."""

RecipeName = Annotated[
    Any,  # str, FinetuneConfig or None: the class is too heavy for --help
    Text(str),
    typer.Option(help="smoke, tpu-v4-32, or a YAML file (see a run's config.yaml).", rich_help_panel=TRAINING),
]
Changes = Annotated[
    tuple[str, ...],
    typer.Option(
        "--set", help="KEY=VALUE over --config: stages.last.epochs=3, head.kind=mlp ...", rich_help_panel=TRAINING
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Keep preprocessed volumes here for later runs: 9 MB each at full size.", rich_help_panel=COMPUTING
    ),
]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(EncoderChoice, LayoutOptions, TargetOptions):
    """What training and its search share: volumes, labels, encoder and recipe.

    bucket: None where a store has everything that the stage of the head needs. store: embeddings of the starting
    encoder.
    """

    bucket: Annotated[str | None, typer.Option(help=BUCKET_HELP, rich_help_panel=SOURCE)] = None
    prefix: Prefix = ""
    endpoint_url: EndpointUrl = None
    store: Annotated[
        str | None,
        typer.Option(
            help="Embeddings of the same encoder: the stage of the head then encodes nothing.", rich_help_panel=SOURCE
        ),
    ] = None
    task: TaskName = None
    config: RecipeName = None
    change: Changes = ()
    device: DeviceName = "auto"
    compiled: Compiled = "auto"
    limit: Limit = None
    runs: Runs = Path("runs")
    cache_dir: CacheDir = None
    stages: tuple[str, ...] = STAGES[:2]
    measurements: Path | None = None
    pretrain_participants: Path | None = None
    allow_near_copies: NearCopies = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe.parallel == "fsdp" and self.compiled == "on":  # a wrong recipe is refused here, too
            raise UsageError("--compile on: parts of a model that fsdp splits are not compiled; leave one of them out")

    @cached_property
    def recipe(self) -> "FinetuneConfig":
        """Return the recipe that --config and the options over it make. Raises UsageError."""
        from finetune.recipe.load import load_config

        return load_config(self.config, changes=self.change, stages=self.stages)

    @property
    def needs_volumes(self) -> bool:
        """Say whether something besides stored vectors and tokens is needed."""
        return self.store is None or self.stages != ("head",) or self.recipe.stages.head.augment > 0

    def require_source(self) -> None:
        """Refuse a run that has nothing to learn from. Raises UsageError."""
        if self.bucket is None and self.needs_volumes:
            raise UsageError(
                "--bucket is missing: say where the volumes are (only --stages head with --store, and without "
                "augmentation, needs none)"
            )
        if self.limit is not None and not self.needs_volumes:
            raise UsageError("--limit counts volumes of the bucket; with --store alone it would do nothing")

    def key(self, encoder: "Encoder") -> str:
        """Name everything that decides the weights, as 16 hex digits: a resumed run must agree in all of it."""
        recipe = self.recipe.model_dump() | dict.fromkeys(NO_WEIGHT)
        parts = (
            recipe, self.stages, str(self.question(self.task)), self.seed, self.bucket, self.prefix,
            self.endpoint_url, self.store,
            self.limit, encoder.weights_sha256, encoder.architecture.image_size,
            sha256(self.label_source.path.read_bytes()).hexdigest(),
            *([_text_of(self.allow_near_copies)] if self.allow_near_copies else []),
            *([repr(self.layout_choice)] if self.layout_choice != LayoutOptions() else []),
        )  # fmt: skip
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _text_of(vouched: Path) -> str:
    """Read a small file of the user's. Raises: UsageError."""
    try:
        require_regular(vouched)
        return vouched.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--allow-near-copies: expected a file that can be read, got: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """The command line of ``finetune``. measurements, pretrain_participants, resplit change no weight.

    Example: FinetuneOptions(bucket="./bucket", participants=Path("participants.tsv"), encoder="random:tiny").
    """

    stages: Annotated[
        tuple[str, ...],
        Text(parse_stages, "head,last,all"),
        typer.Option(
            help="head: only the head; last: the last blocks, too; all: everything; or head,lora.",
            rich_help_panel=TRAINING,
        ),
    ] = STAGES[:3]
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of every stage, over --config.", rich_help_panel=TRAINING)
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Volumes per step, over --config.", rich_help_panel=TRAINING)
    ] = None
    gpus: Gpus = None
    parallel: Annotated[
        Literal["ddp", "fsdp"] | None,
        typer.Option(
            help="Of several processes: ddp, or fsdp, which also shares out gradients and AdamW's moments.",
            show_default="the recipe's, ddp",
            rich_help_panel=COMPUTING,
        ),
    ] = None
    track: Annotated[
        Track | None,
        Text(parse_track),
        typer.Option(
            help="Mirror the curves while training: mlflow or its URI, wandb or wandb:FOLDER.",
            rich_help_panel=RESULTS,
        ),
    ] = None
    replicates: Replicates = 2000
    measurements: Measurements = None
    pretrain_participants: Pretrained = None
    resplit: Resplit = None

    @cached_property
    def recipe(self) -> "FinetuneConfig":
        """Return the recipe that --config and the options over it make. Raises UsageError."""
        from finetune.recipe.load import load_config

        return load_config(
            self.config,
            changes=self.change,
            stages=self.stages,
            epochs=self.epochs,
            batch_size=self.batch_size,
            parallel=self.parallel,
        )


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainingOptions):
    """The command line of ``finetune tune``."""

    study: Annotated[
        Path,
        typer.Option(help="Folder of the search: its journal, and best.yaml for --config.", rich_help_panel=SEARCH),
    ]
    trials: Annotated[
        int,
        typer.Option(
            min=1, help="Finished trials to reach, earlier ones of the study included.", rich_help_panel=SEARCH
        ),
    ]
    stages: Annotated[
        tuple[str, ...],
        Text(parse_stages, "head,last"),
        typer.Option(help="head, or head,last to search how deep to go, too.", rich_help_panel=SEARCH),
    ] = STAGES[:2]
    engine: SearchEngine = "local"
    ray_address: RayAddress = None


@dataclass(frozen=True, kw_only=True)
class LookOptions(TestOptions, LayoutOptions):
    """The command line of ``finetune evaluate``. bucket None: judge again what an earlier evaluation has predicted."""

    bucket: Annotated[
        str | None,
        typer.Option(
            help="Where the run's volumes are; not needed to judge an earlier evaluation again.", rich_help_panel=SOURCE
        ),
    ] = None
    prefix: Prefix = ""
    device: DeviceName = "auto"
    cache_dir: CacheDir = None


def image_recipe(image_size: tuple[int, int, int]) -> str:
    """Name everything besides the object that decides the voxels of a kept volume."""
    versions = package_versions(("octprobe",))
    return json.dumps([PRESET.to_dict(), image_size, versions.get("octprobe")], sort_keys=True)
