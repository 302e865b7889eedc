"""Options of the commands that read a single file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from extract.encoder_options import DeviceName, EncoderChoice, ImageSize, Precision, Preprocessing
from extract.options import AllowedClasses


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions(Preprocessing):
    """One file, and how it is prepared."""

    file: Annotated[
        Path,
        typer.Argument(
            help="A multi-frame OCT DICOM file; of a volume in several, one of them, with the others in its folder."
        ),
    ]
    out: Annotated[Path, typer.Option(help="Where the float32 [C, D, H, W] array goes (.npy).")]
    image_size: ImageSize = None
    allow_sop_class: AllowedClasses = ()


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(EncoderChoice, Preprocessing):
    """One file, and the encoder that reads it."""

    file: Annotated[Path, typer.Argument(help="A .dcm, or a preprocessed .npy: float32 [C,D,H,W] or [B,C,D,H,W].")]
    out: Annotated[Path, typer.Option(help="Where the tokens go: float32 [B, N, C] (.npy).")]
    prefix_out: Annotated[
        Path | None,
        typer.Option(help="Where class, register or global tokens go: float32 [B, P, C], of slices [B, S * P, C]."),
    ] = None
    device: DeviceName = "auto"
    precision: Precision = "fp32"
    allow_sop_class: AllowedClasses = ()
