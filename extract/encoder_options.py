"""How an encoder is chosen and read: the options that every command with an encoder shares."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embeddings_store.command_line import Former, Options, Text
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import COMPUTING, ENCODER


def parse_image_size(text: str) -> tuple[int, int, int]:
    """Read "64,384,384" as (D, H, W)."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--image-size: expected three voxel counts D,H,W such as 64,384,384, got {text!r}")
    depth, height, width = (int(part) for part in parts)
    return depth, height, width


def stands_alone(encoder: str) -> bool:
    """Tell an encoder without a checkpoint (random:tiny, onnx:FILE) from the family of one."""
    return ":" in encoder and not encoder.endswith(".py")


CHECKPOINT_HELP = "Encoder weights: the official file, a trainer's .pt, .safetensors, or a Hugging Face folder."
ENCODER_HELP = "The family of --checkpoint (see the command encoders); or random:tiny, random:base[,seed=N]: untrained."

ImageSize = Annotated[
    tuple[int, int, int] | None,
    Text(parse_image_size),
    typer.Option(
        help="Encoder input D,H,W in voxels.", show_default="what the encoder was made for", rich_help_panel=ENCODER
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        help="Preprocessing: pretrain, finetune_v0, or a YAML file.",
        show_default="pretrain, for encoders that were trained with it",
        rich_help_panel=ENCODER,
    ),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda", "xla"], typer.Option(help="Device.", rich_help_panel=COMPUTING)]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the encoder.", rich_help_panel=COMPUTING)]


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
