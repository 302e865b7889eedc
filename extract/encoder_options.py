"""How an encoder is chosen and read: the options that every command with an encoder shares."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embeddings_store.command_line import Former, Options, Text
from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.shared_options import COMPUTING, ENCODER
from extract.preset import PRESETS, Edges, Preset, Slices, is_edge, is_slices, load_preset


def parse_image_size(text: str) -> tuple[int, int, int]:
    """Read "64,384,384" as (D, H, W)."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--image-size: expected three voxel counts D,H,W such as 64,384,384, got {text!r}")
    depth, height, width = (int(part) for part in parts)
    return depth, height, width


ONNX = "onnx:"


def stands_alone(encoder: str) -> bool:
    """Tell an encoder without a checkpoint (random:tiny, onnx:FILE) from the family of one."""
    return encoder.startswith(("random:", ONNX))


CHECKPOINT_HELP = "Encoder weights: the official file, a trainer's .pt, .safetensors, or a Hugging Face folder."
ENCODER_HELP = (
    "The family of --checkpoint (see the command encoders), or a .py file with one; onnx:FILE; or random:tiny, "
    "random:base[,seed=N]: untrained."
)

ImageSize = Annotated[
    tuple[int, int, int] | None,
    Text(parse_image_size),
    typer.Option(
        help="Encoder input D,H,W in voxels.", show_default="what the encoder was made for", rich_help_panel=ENCODER
    ),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda", "xla"], typer.Option(help="Device.", rich_help_panel=COMPUTING)]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(help="Precision of the arithmetic of the encoder.", rich_help_panel=COMPUTING)
]


def parse_slices(text: str) -> Slices:
    """Read "centre", "all" or "16"; the centre alone is one slice."""
    if text == "all":
        return "all"
    if text == "centre":
        return 1
    if not text.isdecimal() or not 0 < len(text) <= 5 or int(text) < 1:
        raise UsageError(f"--slices: expected centre, all or a number of frames from 1, got {text!r}")
    return int(text)


def parse_crop(text: str) -> Edges:
    """Read "--crop 0,0,0.25,0": top, bottom, left, right."""
    return parse_edges("--crop", text, "top,bottom,left,right")


def parse_edges(option: str, text: str, names: str) -> Edges:
    """Read four numbers: whole ones are pixels, those with a point are shares of the side, at most 1.0."""
    try:
        top, bottom, left, right = (float(part) if "." in part else int(part) for part in text.split(","))
    except ValueError:
        top = bottom = left = right = -1
    edges: Edges = (top, bottom, left, right)
    if not all(map(is_edge, edges)):
        raise UsageError(f"{option}: expected {names} in pixels (480) or shares of the side (0.25), got {text!r}")
    return edges


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Options):
    """How volumes are prepared: a preset, and what is changed of it."""

    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Preprocessing: {', '.join(PRESETS)}, or a YAML file.",
            show_default="the encoder's own, else pretrain",
            rich_help_panel=ENCODER,
        ),
    ] = None
    slices: Annotated[
        Slices | None,
        Text(parse_slices),
        typer.Option(
            help="Frames that an encoder of single B-scans sees: centre, all, or a number, evenly spaced.",
            show_default="16",
            rich_help_panel=ENCODER,
        ),
    ] = None
    crop: Annotated[
        Edges | None,
        Text(parse_crop),
        typer.Option(
            help="Cut off each frame: top,bottom,left,right in pixels (480) or shares (0.25).", rich_help_panel=ENCODER
        ),
    ] = None
    mask: Annotated[
        tuple[str, ...],
        typer.Option(
            help="Set a rectangle of each frame to 0: first row,end row,first column,end column; repeatable.",
            rich_help_panel=ENCODER,
        ),
    ] = ()
    frames_of_all: int | None = None
    """What --slices all stands for, once the volumes are known; it is no option."""
    single_pictures: bool = False
    """Each scan of the bucket is one B-scan, which is then what a slice encoder sees; it is no option."""

    @property
    def slice_count(self) -> int | None:
        """Return how many frames an encoder of single B-scans is opened for; None: as many as it has by default."""
        if self.slices is None and self.single_pictures:
            return 1
        return self.frames_of_all if self.slices == "all" else 1 if self.slices == "centre" else self.slices

    def prepared(self, own: str | None, image_size: Grid | None = None) -> Preset:
        """Return the preset: the one that was typed, else the encoder's own, with what else was typed.

        own: the name of the encoder's own preset. image_size: of the encoder, whose depth is the number of slices.
        Raises UsageError.
        """
        preset = load_preset(self.preset or own)
        count = None if preset.slices is None else self.slice_count
        if self.slices is not None and not is_slices(self.slices):
            raise UsageError(f"--slices: expected centre, all or a number of frames from 1, got {self.slices!r}")
        if self.slices is not None and preset.slices is None:
            raise UsageError(f"--slices: the preset {preset.name!r} is of whole volumes; leave --slices out")
        slices = "all" if self.slices == "all" else count or preset.slices
        if slices not in (None, "all") and image_size is not None:
            if count is not None and count != image_size[0]:
                raise UsageError(f"--slices {count}: expected {image_size[0]}, the frames of the image size")
            slices = image_size[0]
        names = "first row,end row,first column,end column"
        return replace(
            preset,
            slices=slices,
            margins=self.crop or preset.margins,
            mask=preset.mask + tuple(parse_edges("--mask", one, names) for one in self.mask),
        )


@dataclass(frozen=True, kw_only=True)
class EncoderReading(Options):
    """How an encoder is read: what its file does not say."""

    heads: Annotated[
        int | None,
        Former("--heads"),
        typer.Option("--num-heads", help="Attention heads, where the file does not say.", rich_help_panel=ENCODER),
    ] = None
    interpolate: Annotated[
        bool,
        typer.Option(
            help="Take another --image-size than the encoder's own, instead of refusing.", rich_help_panel=ENCODER
        ),
    ] = False
    image_size: ImageSize = None
    which: Annotated[
        str | None,
        Former("--which"),
        typer.Option(
            "--checkpoint-key",
            help="Which encoder of a checkpoint that holds several: context, target, or a top key of the file.",
            show_default="the one that the family's own code reads",
            rich_help_panel=ENCODER,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EncoderChoice(EncoderReading):
    """Which encoder: a checkpoint file, by its family, or a random one.

    Example: EncoderChoice(encoder="random:tiny", image_size=(32, 96, 96)).
    """

    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP, rich_help_panel=ENCODER)] = None
    encoder: Annotated[str | None, typer.Option(help=ENCODER_HELP, rich_help_panel=ENCODER)] = None

    @property
    def choice(self) -> "EncoderChoice":
        """Return the encoder alone, without what a verb's options add to it."""
        return EncoderChoice(**self.arguments())

    def arguments(self) -> dict[str, Any]:
        """Return the fields as keyword arguments of open_encoder."""
        return {field.name: getattr(self, field.name) for field in fields(EncoderChoice)}
