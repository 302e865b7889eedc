"""The options of survey."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import BUCKET_HELP, IN_AND_OUT, SOURCE, EndpointUrl, Prefix
from extract.layouts.options import LayoutOptions


@dataclass(frozen=True, kw_only=True)
class SurveyOptions(LayoutOptions):
    """One survey."""

    bucket: Annotated[str, typer.Option(help=BUCKET_HELP, rich_help_panel=SOURCE)]
    out: Annotated[Path, typer.Option(help="The table of scans, as CSV.", rich_help_panel=IN_AND_OUT)]
    prefix: Prefix = ""
    endpoint_url: EndpointUrl = None
    checksums: Annotated[
        bool,
        typer.Option(help="Read every voxel, for checksums, copies and labels inside files.", rich_help_panel=SOURCE),
    ] = False
    identifiers: Annotated[
        bool,
        typer.Option(
            help="Add what DICOM headers say of the patient: id, name, dates, descriptions. Keep such a table safe.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = False
    contact_sheet: Annotated[
        Path | None, typer.Option(help="A PNG with the middle B-scan of each scan.", rich_help_panel=IN_AND_OUT)
    ] = None

    @property
    def takes_any_folder(self) -> bool:
        """Say that any bucket may be surveyed."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contact_sheet is not None and self.contact_sheet.suffix.lower() != ".png":
            raise UsageError(f"--contact-sheet {self.contact_sheet}: expected a name that ends in .png")
        for option, path in (("--out", self.out), ("--contact-sheet", self.contact_sheet)):
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise UsageError(f"{option} {path}: expected a file in a folder that exists")


@dataclass(frozen=True, kw_only=True)
class DatasetsOptions(Options):
    """Which cards are shown."""

    name: Annotated[str | None, typer.Argument(help="Only this dataset.", show_default="all of them")] = None
