"""What the doctor examines: the options of its command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.errors import UsageError
from embeddings_store.shared_options import BUCKET_HELP, IN_AND_OUT, SOURCE, EndpointUrl, Prefix
from extract.encoder_options import DeviceName, EncoderChoice, Precision, Preprocessing, stands_alone
from extract.layouts.options import LayoutOptions


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(EncoderChoice, Preprocessing, LayoutOptions):
    """One examination; None means: not asked for."""

    bucket: Annotated[str | None, typer.Option(help=BUCKET_HELP, rich_help_panel=SOURCE)] = None
    prefix: Prefix = ""
    endpoint_url: EndpointUrl = None
    store: Annotated[
        str | None, typer.Option(help="Try whether this store can be written.", rich_help_panel=IN_AND_OUT)
    ] = None
    device: DeviceName = "auto"
    precision: Precision = "fp32"
    volumes: Annotated[int, typer.Option(min=1, help="Volumes of the bucket to try.", rich_help_panel=SOURCE)] = 4
    export: Annotated[
        Path | None,
        typer.Option(help="Write the encoder in use as .safetensors, and read it back.", rich_help_panel=IN_AND_OUT),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint is not None and self.encoder is not None and stands_alone(self.encoder):
            raise UsageError(
                f"expected --checkpoint FILE with --encoder FAMILY, or --encoder {self.encoder} alone; got both"
            )
        if self.checkpoint is None and (self.heads is not None or self.interpolate or self.which is not None):
            raise UsageError("--num-heads, --interpolate and --checkpoint-key belong to --checkpoint; add it")
        if self.slices == "all" and self.image_size is None:
            raise UsageError("--slices all: the doctor needs their number; say --slices N")
        self._check_export()

    def _check_export(self) -> None:
        if self.export is None:
            return
        if self.checkpoint is None and self.encoder is None:
            raise UsageError("--export needs an encoder: say --checkpoint FILE")
        if self.export.suffix != ".safetensors":
            raise UsageError(f"--export {self.export}: expected a name that ends in .safetensors")
        if self.checkpoint is not None and self.export.resolve() == self.checkpoint.resolve():
            raise UsageError(f"--export {self.export}: expected another file than the checkpoint itself")
