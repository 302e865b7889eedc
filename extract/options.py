"""The options of extract-embeddings: what each is called, takes and says of itself, and what it may be."""

from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embeddings_store.command_line import Text, several
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import (
    BUCKET_HELP,
    COMPUTING,
    ENCODER,
    RESULTS,
    SOURCE,
    EndpointUrl,
    Prefix,
)
from extract.device_options import Compiled, Gpus, TpuChips
from extract.encoder_options import (
    CHECKPOINT_HELP,
    ENCODER_HELP,
    DeviceName,
    EncoderChoice,
    EncoderReading,
    Precision,
    Preprocessing,
    stands_alone,
)
from extract.layouts.options import LayoutOptions
from extract.preset import Slices, require_plain

if TYPE_CHECKING:
    from extract.bucket.where import Comparison

# Headings of the groups of options in --help that only this command line has.
KEPT = "What is stored, and where"
FETCHING = "Fetching, decoding, writing"

POOLS = ("mean", "max", "std")
OWN_POOLS = ("cls",)
"""Only of encoders with prefix tokens, and not by default."""
DEFAULT_TOKEN_DTYPE: Literal["float16"] = "float16"
DEVICES_OF_RAY = ("auto", "cpu", "cuda")

PartialReads = Literal["auto", "on", "off"]
"""Whether of a volume only the header and the frames in use are fetched; auto: where that is found to be faster."""


def read_classes(words: tuple[str, ...]) -> frozenset[str]:
    """Return the UIDs of SOP classes; DICOM's names are looked up only where there are any. Raises UsageError."""
    if not words:
        return frozenset()
    from extract.allowed import parse_classes

    return parse_classes(words)


def parse_layers(text: str) -> tuple[str, ...]:
    """Read "3,6,last"."""
    return _parse_names("--layers", text)


def parse_pools(text: str) -> tuple[str, ...]:
    """Read "mean,max,std"."""
    return _parse_names("--pool", text, allowed=POOLS + OWN_POOLS)


def _parse_names(option: str, text: str, allowed: tuple[str, ...] | None = None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if not name or (allowed and name not in allowed)]:
        raise UsageError(f"{option}: expected any of {', '.join(allowed or ('1', 'last'))}, got {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise UsageError(f"{option}: expected each name once, got {text!r}")
    return names


def _count(option: str) -> Text:
    def parse(text: str) -> int | None:
        if text == "auto":
            return None
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{option}: expected auto or a number from 1, got {text!r}")
        return int(text)

    return Text(parse, "auto")


AllowedClasses = Annotated[
    tuple[str, ...],
    typer.Option(
        help="Take objects of this SOP class (UID or DICOM's name) too, though they are no structural OCT; repeatable.",
        rich_help_panel=SOURCE,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Keep raw objects here for the next run; patients' data, so mind the disk.", rich_help_panel=FETCHING
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N volumes of the listing.", rich_help_panel=SOURCE)
]


@dataclass(frozen=True, slots=True)
class Output:
    """One encoder, and the store that its rows go to. slices: its own, where each encoder of a pass has its own."""

    choice: EncoderChoice
    store: str
    slices: Slices | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(EncoderReading, Preprocessing, LayoutOptions):
    """One run of extract-embeddings: its command line, and the argument of ``extract``.

    A single store, checkpoint or encoder may be given as it is.

    Example: ExtractOptions(bucket="./bucket", store="./store", encoder="random:tiny", layers="3,last").
    """

    bucket: Annotated[str, typer.Option(help=BUCKET_HELP, rich_help_panel=SOURCE)]
    store: Annotated[
        str | tuple[str, ...],
        typer.Option(
            help="Where embeddings go: a folder or s3://bucket/prefix; one for each --checkpoint, "
            "then each --encoder without a file.",
            rich_help_panel=KEPT,
        ),
    ]
    prefix: Prefix = ""
    endpoint_url: EndpointUrl = None
    checkpoint: Annotated[
        Path | tuple[Path, ...],
        typer.Option(
            help=f"{CHECKPOINT_HELP} Repeat it, with a --store for each: one pass over the bucket feeds them all.",
            rich_help_panel=ENCODER,
        ),
    ] = ()
    encoder: Annotated[
        str | tuple[str, ...], typer.Option(help=f"{ENCODER_HELP} May be repeated.", rich_help_panel=ENCODER)
    ] = ()
    layers: Annotated[
        tuple[str, ...],
        Text(parse_layers, "last"),
        typer.Option(help="Blocks from 1, or last (after the final norm): 3,6,last.", rich_help_panel=KEPT),
    ] = ("last",)
    pools: Annotated[
        tuple[str, ...],
        Text(parse_pools, ",".join(POOLS)),
        typer.Option(
            "--pool",
            help="Pooled vectors to store: any of mean,max,std, and cls where the encoder has a class token.",
            rich_help_panel=KEPT,
        ),
    ] = POOLS
    tokens: Annotated[
        str, typer.Option(help="Patch tokens to store: full, a reduced grid DxHxW, or none.", rich_help_panel=KEPT)
    ] = "full"
    token_dtype: Annotated[
        Literal["float16", "int8"],
        typer.Option(help="int8 takes half the space and is a little less exact.", rich_help_panel=KEPT),
    ] = DEFAULT_TOKEN_DTYPE
    device: DeviceName = "auto"
    precision: Precision = "fp32"
    compiled: Compiled = "auto"
    gpus: Gpus = None
    tpu_chips: TpuChips = None
    batch_size: Annotated[
        int | None,
        _count("--batch-size"),
        typer.Option(help="Volumes per forward pass, or auto.", rich_help_panel=COMPUTING),
    ] = None
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This machine, or a Ray cluster (needs the extra ray).", rich_help_panel=COMPUTING),
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of a running Ray cluster, such as 10.0.0.1:6379, or auto.",
            show_default="Ray's own",
            rich_help_panel=COMPUTING,
        ),
    ] = None
    streams: Annotated[int, typer.Option(min=1, help="Objects fetched at once.", rich_help_panel=FETCHING)] = 32
    decoders: Annotated[
        int | None,
        _count("--decoders"),
        typer.Option(help="Volumes decoded at once, or auto: one per core.", rich_help_panel=FETCHING),
    ] = None
    writers: Annotated[
        int | None,
        _count("--writers"),
        typer.Option(help="Rows written at once, or auto.", rich_help_panel=FETCHING),
    ] = None
    rank: Annotated[
        int | None,
        typer.Option(
            help="Which of --ranks processes this is, from 0.",
            show_default="SLURM, torchrun, MPI or a TPU pod says",
            rich_help_panel=COMPUTING,
        ),
    ] = None
    ranks: Annotated[
        int | None, typer.Option(help="How many processes share the volumes of one bucket.", rich_help_panel=COMPUTING)
    ] = None
    usd_per_hour: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="What this machine costs per hour, for the cost of 1,000 volumes.", rich_help_panel=RESULTS
        ),
    ] = None
    limit: Limit = None
    allow_sop_class: AllowedClasses = ()
    where: Annotated[
        str | None,
        typer.Option(
            help="Only matching volumes, such as: device=topcon_triton,zeiss_cirrus and eye=L and frames>=64. "
            "Fields: device, protocol, eye, site, participant, split, frames.",
            rich_help_panel=SOURCE,
        ),
    ] = None
    participants: Annotated[
        Path | None,
        typer.Option(
            help="Only these participants: a participants.tsv, or a file of one id per line.", rich_help_panel=SOURCE
        ),
    ] = None
    refresh: Annotated[
        bool,
        typer.Option(
            help="List the bucket again; without this, a listing of the last day is used.", rich_help_panel=SOURCE
        ),
    ] = False
    cache_dir: CacheDir = None
    cache_gb: Annotated[
        float, typer.Option(min=0.001, help="Size of --cache-dir in 10^9 bytes.", rich_help_panel=FETCHING)
    ] = 50.0
    partial_reads: Annotated[
        PartialReads,
        typer.Option(
            help="Fetch only the header and the frames in use; auto: where that is faster.", rich_help_panel=FETCHING
        ),
    ] = "auto"
    views: Annotated[
        int,
        typer.Option(
            min=0,
            help="Augmented views of each volume whose pooled vectors are kept with it, for heads to learn from; "
            "each costs one more forward pass.",
            rich_help_panel=KEPT,
        ),
    ] = 0
    given: tuple[Output, ...] = ()
    """Encoders with slices and sizes of their own, in the place of typed ones; it is no option."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_outputs()
        self._check_engine()
        if self.views and self.preset:
            require_plain(self.views, self.preset)
        if self.partial_reads == "on" and self.cache_dir is not None:
            raise UsageError("--partial-reads on: --cache-dir keeps whole objects only; leave one of the two out")
        if self.tokens == "none" and self.token_dtype != DEFAULT_TOKEN_DTYPE:
            raise UsageError(
                f"--token-dtype {self.token_dtype}: expected tokens to store, got --tokens none; leave one of them out"
            )
        _ = self.allowed_classes, self.conditions  # a wrong one is refused here

    @property
    def allowed_classes(self) -> frozenset[str]:
        """Return the UIDs of --allow-sop-class."""
        return read_classes(self.allow_sop_class)

    @property
    def conditions(self) -> "tuple[Comparison, ...]":
        """Return the comparisons of --where."""
        if not self.where:
            return ()
        from extract.bucket.where import parse_where

        return parse_where(self.where)

    @property
    def choices(self) -> list[EncoderChoice]:
        """Return each checkpoint with its family, then each random encoder; what a checkpoint has goes to every one."""
        reading = {field.name: getattr(self, field.name) for field in fields(EncoderReading)}
        files, alone = several(self.checkpoint), [one for one in several(self.encoder) if stands_alone(one)]
        typed = [one for one in several(self.encoder) if not stands_alone(one)] or [None] * len(files)
        trained = [
            EncoderChoice(checkpoint=file, encoder=family, **reading) for file, family in zip_longest(files, typed)
        ]
        # Without any checkpoint its options are in the wrong place, which open_encoder says.
        of_random = {"image_size": self.image_size} if trained else reading
        return trained + [EncoderChoice(encoder=one, **of_random) for one in alone]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Return the encoders with their stores, all fed by one pass."""
        if self.given:
            return self.given
        made = zip(self.choices, several(self.store), strict=True)
        return tuple(Output(choice, store, self.slices) for choice, store in made)

    def of(self, output: Output) -> "ExtractOptions":
        """Return what holds for one encoder alone."""
        return replace(self, slices=output.slices) if self.given else self

    def _check_outputs(self) -> None:
        files, encoders, stores = several(self.checkpoint), several(self.encoder), several(self.store)
        alone = [one for one in encoders if stands_alone(one)]
        typed = len(encoders) - len(alone)
        if typed not in (0, len(files)):
            raise UsageError(
                f"--encoder: expected a family for each of the {len(files)} --checkpoint, in this order, or none, "
                f"got {typed}"
            )
        names = [one.store for one in self.given] or [*map(str, files), *alone]
        if not names:
            raise UsageError(
                "expected at least one encoder: --encoder FAMILY --checkpoint FILE, or --encoder random:tiny"
            )
        if len(names) != len(stores):
            raise UsageError(
                f"--store: expected {len(names)}, one for each of {', '.join(names)} in this order (every "
                f"--checkpoint, then every --encoder that has no file), got {len(stores)}: {', '.join(stores)}"
            )
        if len({store.rstrip("/") for store in stores}) < len(stores):
            raise UsageError(f"--store: expected a store of its own for each encoder, got {', '.join(stores)}")

    def _check_engine(self) -> None:
        if self.engine == "local" and self.ray_address is not None:
            raise UsageError("--ray-address: only --engine ray goes to a Ray cluster; add it, or leave the address out")
        if self.engine == "ray" and self.ranks is not None:
            raise UsageError("--engine ray shares the volumes out by itself: leave out --rank and --ranks")
        if self.engine == "ray" and (self.gpus, self.tpu_chips) != (None, None):
            raise UsageError("--engine ray takes every GPU of the cluster: leave out --gpus and --tpu-chips")
        if self.engine == "ray" and self.device not in DEVICES_OF_RAY:
            raise UsageError(
                f"--engine ray: expected --device {', '.join(DEVICES_OF_RAY)}, got {self.device!r}; on a TPU pod "
                "run the same command on every host with --engine local"
            )
