"""Options of the commands that read a single file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options
from embeddings_store.shared_options import SOURCE
from extract.encoder_options import (
    DeviceName,
    EncoderChoice,
    ImageSize,
    Precision,
    Preprocessing,
)
from extract.layouts.options import ArrayName, InColour, StoredAxes
from extract.options import AllowedClasses
from extract.readers.read_options import ReadOptions

SCAN_HELP = "A scan: a file of any kind that docs/scans.md lists, or a folder of pictures or DICOM files."


@dataclass(frozen=True, kw_only=True)
class ScanChoice(Options):
    """Which volume of a file is read, and how its axes lie."""

    array: ArrayName = None
    axes: StoredAxes = None
    colours: InColour = "refuse"
    volume: Annotated[
        int | None, typer.Option(help="Which volume, of a file that holds several.", min=1, rich_help_panel=SOURCE)
    ] = None
    allow_sop_class: AllowedClasses = ()

    def read_options(self) -> ReadOptions:
        """Return what the readers are to know."""
        return ReadOptions(self.array, self.axes, self.colours)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions(ScanChoice):
    """One scan, and where its picture goes."""

    file: Annotated[Path, typer.Argument(help=SCAN_HELP)]
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png).")]


@dataclass(frozen=True, kw_only=True)
class PreparedScan(ScanChoice, Preprocessing):
    """One file, and how it is prepared."""

    file: Annotated[Path, typer.Argument(help=SCAN_HELP)]
    image_size: ImageSize = None


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions(PreparedScan):
    """The same, and where the array goes."""

    out: Annotated[Path, typer.Option(help="Where the float32 [C, D, H, W] array goes (.npy).")]


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(ScanChoice, EncoderChoice, Preprocessing):
    """One file, and the encoder that reads it."""

    file: Annotated[Path, typer.Argument(help="A scan, or a preprocessed .npy: float32 [C,D,H,W] or [B,C,D,H,W].")]
    out: Annotated[Path, typer.Option(help="Where the tokens go: float32 [B, N, C] (.npy).")]
    prefix_out: Annotated[
        Path | None,
        typer.Option(help="Where class, register or global tokens go: float32 [B, P, C], of slices [B, S * P, C]."),
    ] = None
    device: DeviceName = "auto"
    precision: Precision = "fp32"
