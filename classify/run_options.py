"""The options of the verbs that use a finished run, and of baselines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from classify.options import JUDGING, Measurements, NearCopies, Pretrained, Prevalence, Replicates
from classify.question_options import TableOptions, TargetOptions, TaskName
from embeddings_store.command_line import Options
from embeddings_store.shared_options import (
    IN_AND_OUT,
    EndpointUrl,
    Runs,
    StoreAddress,
    StoreAddresses,
)

RunFolder = Annotated[
    Path, typer.Option(help="A finished run: its folder, or its name below --runs.", rich_help_panel=IN_AND_OUT)
]


UNLOCKS = "Unlocks test, and writes a line into the ledger of the runs."


@dataclass(frozen=True, kw_only=True)
class JudgedOptions(TableOptions):
    """One evaluation of a finished run, whoever predicts. seed None: the bootstrap seed of the run.

    measurements, pretrain_participants: as for a probe; they are not kept with a run, so they are given again.
    """

    run: RunFolder
    replicates: Replicates = 2000
    measurements: Measurements = None
    pretrain_participants: Pretrained = None
    runs: Runs = Path("runs")
    endpoint_url: EndpointUrl = None
    seed: int | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TestOptions(JudgedOptions):
    """One evaluation of the locked test split, whoever predicts."""

    split: Annotated[Literal["test"], typer.Option(help=UNLOCKS, rich_help_panel=JUDGING)]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(JudgedOptions):
    """The command line of ``classify evaluate``: of test, or of people of another place."""

    store: StoreAddresses
    split: Annotated[Literal["test"] | None, typer.Option(help=UNLOCKS, rich_help_panel=JUDGING)] = None
    external: Annotated[
        bool,
        typer.Option(
            help="Judge people of another place, all of --store that --labels knows; locked and counted like test.",
            rich_help_panel=JUDGING,
        ),
    ] = False
    recalibrate_on: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --external: how many of these people, drawn at random, recalibrate the run and are then not "
            "judged; if not given, a fifth of them, at most 100. 0: none.",
            rich_help_panel=JUDGING,
        ),
    ] = None
    allow_near_copies: NearCopies = None
    random_twin: Annotated[
        str | None,
        typer.Option(help="Store of the run's random twin, to evaluate it too.", rich_help_panel=JUDGING),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(TargetOptions):
    """The command line of ``classify baselines``."""

    store: StoreAddress
    task: TaskName = None
    measurements: Measurements = None
    allow_near_copies: NearCopies = None
    replicates: Replicates = 2000
    runs: Runs = Path("runs")
    endpoint_url: EndpointUrl = None


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(Options):
    """When a volume is answered, and what is said of it. abstain_below 0, ood_percentile 100: never for that reason.

    show_unknown: predict what is unlike training, but abstain all the same, as a case page does.
    """

    abstain_below: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Abstain where the calibrated probability of the likeliest class is lower: below 0.5 the answer is "
            "more likely wrong than right. 0: never.",
            rich_help_panel=JUDGING,
        ),
    ] = 0.5
    ood_percentile: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Give no answer for a scan that lies farther out than this percentage of the training scans. 100: "
            "always answer.",
            rich_help_panel=JUDGING,
        ),
    ] = 99.0
    prevalence: Prevalence = None
    answer_unknown: Annotated[
        bool,
        typer.Option(
            help="Answer even for scans whose device, protocol, size or brightness is unlike all of training.",
            rich_help_panel=JUDGING,
        ),
    ] = False
    show_unknown: bool = False
    nearest: Annotated[
        int, typer.Option(min=0, help="Training participants to name with each volume.", rich_help_panel=JUDGING)
    ] = 3


@dataclass(frozen=True, kw_only=True)
class PredictOptions(AnswerOptions):
    """The command line of ``classify predict``."""

    run: RunFolder
    store: StoreAddresses
    out: Annotated[
        Path,
        typer.Option(help="Where the lines go: a name that ends in .parquet or .csv.", rich_help_panel=IN_AND_OUT),
    ] = Path("predictions.parquet")
    participants_only: Annotated[
        bool,
        typer.Option(
            help="Write lines of the judged level (participants, if the task is of them) only.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = False
    runs: Runs = Path("runs")
    endpoint_url: EndpointUrl = None
