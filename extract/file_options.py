"""Options of the commands that read a single file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options, Text
from embeddings_store.shared_options import ENCODER
from extract.encoder_options import DeviceName, EncoderChoice, Precision, PresetName, parse_image_size
from extract.options import AllowedClasses


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions(Options):
    """One file, and how it is prepared."""

    file: Annotated[Path, typer.Argument(help="A multi-frame OCT DICOM file.")]
    out: Annotated[Path, typer.Option(help="Where the float32 [1, D, H, W] array goes (.npy).")]
    preset: PresetName = None
    image_size: Annotated[
        tuple[int, int, int],
        Text(parse_image_size, "64,384,384"),
        typer.Option(help="D,H,W in voxels.", rich_help_panel=ENCODER),
    ] = (64, 384, 384)
    allow_sop_class: AllowedClasses = ()


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(EncoderChoice):
    """One file, and the encoder that reads it."""

    file: Annotated[Path, typer.Argument(help="A .dcm, or a preprocessed .npy: float32 [1,D,H,W] or [B,C,D,H,W].")]
    out: Annotated[Path, typer.Option(help="Where the tokens go: float32 [B, N, C] (.npy).")]
    prefix_out: Annotated[
        Path | None,
        typer.Option(help="Where class, register or global tokens go: float32 [B, P, C], of slices [B, S * P, C]."),
    ] = None
    preset: PresetName = None
    device: DeviceName = "auto"
    precision: Precision = "fp32"
    allow_sop_class: AllowedClasses = ()
