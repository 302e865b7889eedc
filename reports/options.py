"""The options of reports: which runs, what is read besides, and where pages go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from embeddings_store.command_line import Options, Text
from embeddings_store.shared_options import (
    BUCKET_HELP,
    COMPUTING,
    IN_AND_OUT,
    SOURCE,
    EndpointUrl,
    Prefix,
    StoreAddress,
)
from extract.layouts.options import LayoutOptions
from finetune.tracking.places import DEFAULT_PLACES, EXPERIMENT, TrackerName

CHOSEN = "Which run and whom"

FinishedRuns = Annotated[Path, typer.Option(help="Folder of finished runs.", rich_help_panel=IN_AND_OUT)]


def parse_people(text: str) -> tuple[str, ...]:
    """Read participants with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Options):
    """Which runs go on the page, and where it goes. task, cohort: needed only where the runs differ in them."""

    store: StoreAddress
    runs: FinishedRuns
    out: Annotated[Path, typer.Option(help="Folder that gets study.html.", rich_help_panel=IN_AND_OUT)]
    task: Annotated[
        str | None, typer.Option(help="Which task, where the runs have several.", rich_help_panel=CHOSEN)
    ] = None
    cohort: Annotated[
        str | None,
        typer.Option(help="Which cohort (start of its sha256), where runs have several.", rich_help_panel=CHOSEN),
    ] = None
    endpoint_url: EndpointUrl = None


@dataclass(frozen=True, kw_only=True)
class CaseOptions(LayoutOptions):
    """Whose pages, by which run, and where they go."""

    runs: FinishedRuns
    out: Annotated[Path, typer.Option(help="Folder that gets case-<participant>.html.", rich_help_panel=IN_AND_OUT)]
    store: Annotated[
        str | None,
        typer.Option(help="Embeddings that a probe reads; with tokens they show where.", rich_help_panel=IN_AND_OUT),
    ] = None
    bucket: Annotated[
        str | None,
        typer.Option(help=f"{BUCKET_HELP} For B-scans, and for a fine-tuned model.", rich_help_panel=SOURCE),
    ] = None
    prefix: Prefix = ""
    run: Annotated[
        str | None,
        typer.Option(
            help="The finished run to explain.", show_default="the best probe by validation", rich_help_panel=CHOSEN
        ),
    ] = None
    participants: Annotated[
        tuple[str, ...],
        Text(parse_people),
        typer.Option(
            "--participant",
            help="Whose pages: ids, separated by commas.",
            show_default="a few instructive ones of validation",
            rich_help_panel=CHOSEN,
        ),
    ] = ()
    export: Annotated[
        bool, typer.Option(help="Also write each map as NIfTI and as DICOM.", rich_help_panel=IN_AND_OUT)
    ] = False
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="For a fine-tuned model (default: cpu).", rich_help_panel=COMPUTING),
    ] = None
    endpoint_url: EndpointUrl = None


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Options):
    """What the dashboard shows, and to whom."""

    runs: FinishedRuns
    pages: Annotated[Path, typer.Option(help="OUT of reports study and reports case.", rich_help_panel=IN_AND_OUT)]
    host: Annotated[
        str, typer.Option(help="Address to listen on: by default this machine alone, since pages show participants.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8750
    mlflow_url: Annotated[str | None, typer.Option(help="Address of a running MLflow page, to link it.")] = None


@dataclass(frozen=True, kw_only=True)
class TrackOptions(Options):
    """Which runs are mirrored, and where to."""

    runs: FinishedRuns
    to: Annotated[TrackerName, typer.Option(help="WANDB_MODE=offline keeps a W&B mirror here.")] = "mlflow"
    tracking_uri: Annotated[
        str | None,
        typer.Option(help=f"MLflow's records (default {DEFAULT_PLACES['mlflow']}), or W&B's local folder (default .)."),
    ] = None
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment, or W&B project.")] = EXPERIMENT
    figures: Annotated[Path | None, typer.Option(help="OUT of `reports study`: its page goes with the runs.")] = None

    with_participants: Annotated[
        bool,
        typer.Option(
            "--with-participants",
            help="Also send what is about single participants: cohort table, predictions, training vectors, test ids.",
        ),
    ] = False

    @property
    def place(self) -> str:
        """Return where the mirror is."""
        return self.tracking_uri or DEFAULT_PLACES[self.to]
