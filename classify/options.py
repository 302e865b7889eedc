"""The options of classify: what each verb takes, with its help, its choices and its defaults."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from classify.question_options import TargetOptions, TaskName, names_text
from embeddings_store.command_line import Text
from embeddings_store.errors import UsageError
from embeddings_store.machine import usable_cores
from embeddings_store.shared_options import (
    COMPUTING,
    IN_AND_OUT,
    EndpointUrl,
    Runs,
    StoreAddresses,
)

if TYPE_CHECKING:
    from classify.cohort.labels import LabelSource

# Headings of the groups of options in --help that only training heads has.
FEATURES = "Features"
SEARCH = "Search"
JUDGING = "Judging"

AUTO = "auto"
CORES = usable_cores()

HeadName = Literal["linear", "mlp", "lgbm", "forest", "ordinal", "knn", "tokens-linear", "attentive", "mil", "dummy"]

ModelName = Literal[HeadName, "auto"]
MODEL_HELP = "The head, or auto: those that fit are searched; the best inside train, or a simple one as good, is taken."


def parse_token_grid(text: str) -> tuple[int, int, int]:
    """Read "4x6x6"; else UsageError."""
    from classify.features.tokens import parse_token_grid as parse

    return parse(text)


Measurements = Annotated[
    Path | None,
    typer.Option(
        help="OMOP measurement.csv: HbA1c as a ceiling, BMI as a baseline; neither is ever a covariate.",
        rich_help_panel=IN_AND_OUT,
    ),
]
Pretrained = Annotated[
    Path | None,
    typer.Option(
        help="Participants that the encoder was pretrained on: one id per line, or a table with participant_id.",
        rich_help_panel=IN_AND_OUT,
    ),
]
NearCopies = Annotated[
    Path | None,
    typer.Option(
        help="File of participants, or of pairs of them (two ids per line), whose scans may be nearly equal, such as "
        "twins or repeats.",
        rich_help_panel=IN_AND_OUT,
    ),
]
Resplit = Annotated[
    str | None,
    typer.Option(
        help="Your reason, where people whom an earlier run here locked as test are train or val now, or where many "
        "labels changed. It is kept, and shown with every number.",
        rich_help_panel=IN_AND_OUT,
    ),
]
Replicates = Annotated[int, typer.Option(min=1, help="Bootstrap replicates.", rich_help_panel=JUDGING)]
CrossValidate = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Cross-validate over so many folds of participants, with the whole search inside each: for studies too "
        "small for a split. Everybody is judged, and nobody is held back as a test split.",
        rich_help_panel=JUDGING,
    ),
]
Prevalence = Annotated[
    str | None,
    typer.Option(
        help="Shares of the classes among the people whom probabilities are for: class=share,...; if not given, those "
        "of train and val.",
        rich_help_panel=JUDGING,
    ),
]
SearchEngine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where trials run: here, or Ray Tune (needs the extra ray).", rich_help_panel=SEARCH),
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Address of a running Ray cluster; none: this machine.", rich_help_panel=SEARCH),
]


@dataclass(frozen=True, kw_only=True)
class HeadOptions(TargetOptions):
    """How heads are fitted and judged: what probe, compare and learning-curve share."""

    layer: Annotated[
        str,
        typer.Option(
            help="A layer of the stores; auto: chosen by the search, and without --trials the last.",
            rich_help_panel=FEATURES,
        ),
    ] = AUTO
    pools: Annotated[
        tuple[str, ...],
        names_text("--pool", AUTO),
        typer.Option(
            "--pool",
            help="Pools of the stores, such as mean,max; auto: chosen by the search, and without --trials the mean.",
            rich_help_panel=FEATURES,
        ),
    ] = (AUTO,)
    aggregate: Annotated[
        Literal["auto", "mean-logits", "mean-features", "best-protocol", "learned-weights"],
        typer.Option(
            help="How the scans of a participant become one answer; auto: chosen by the search, and without --trials "
            "mean-logits.",
            rich_help_panel=FEATURES,
        ),
    ] = "auto"
    token_grid: Annotated[
        tuple[int, int, int] | None,
        Text(parse_token_grid),
        typer.Option(
            help="Grid of patch tokens for attentive and tokens-linear, such as 4x6x6; if not given, at most 150 "
            "tokens per volume for attentive, and 36 for tokens-linear.",
            rich_help_panel=FEATURES,
        ),
    ] = None
    device: Annotated[
        Literal["cpu", "cuda", "auto"],
        typer.Option(
            help="For linear heads, mlp, attentive and mil; the others stay on the CPU.",
            rich_help_panel=COMPUTING,
        ),
    ] = "cpu"
    trials: Annotated[
        int,
        typer.Option(
            min=0,
            help="Trials of the search for parameters (Optuna), inside train; 0: no search, but safe defaults.",
            rich_help_panel=SEARCH,
        ),
    ] = 0
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop the search after so many minutes, or after --trials if that comes first; the same command "
            "continues it.",
            rich_help_panel=SEARCH,
        ),
    ] = None
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes of the search, one thread and some folds each.",
            show_default="one per core",
            rich_help_panel=SEARCH,
        ),
    ] = CORES
    replicates: Replicates = 2000
    runs: Runs = Path("runs")
    resplit: Resplit = None
    endpoint_url: EndpointUrl = None
    command: tuple[str, ...] = ()

    def shared(self) -> dict[str, Any]:
        """Return what the verbs share, by name."""
        return {one.name: getattr(self, one.name) for one in fields(HeadOptions)}


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(HeadOptions):
    """One head on one store: the command line of ``classify probe``, and the argument of ``probe``.

    trials 0 and no minutes: the safe defaults, without a search. views None: as many as are stored.
    Example: ProbeOptions(model="linear", store="./store", participants=Path("participants.tsv"), trials=50).
    """

    model: Annotated[ModelName, typer.Option(help=MODEL_HELP)]
    store: StoreAddresses
    task: TaskName = None
    views: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many augmented views of each volume to train on as well (extract-embeddings --views makes them); "
            "if not given, all.",
            rich_help_panel=FEATURES,
        ),
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Folds of participants inside train; 5, or fewer where a class is small.",
            rich_help_panel=SEARCH,
        ),
    ] = None
    nested: Annotated[
        bool,
        typer.Option(
            help="Judge the search itself as well, on outer folds of train and val (5 more searches).",
            rich_help_panel=SEARCH,
        ),
    ] = False
    engine: SearchEngine = "local"
    ray_address: RayAddress = None
    cross_validate: CrossValidate = None
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Fit the chosen model with so many seeds, and show their range.", rich_help_panel=JUDGING
        ),
    ] = 1
    calibrate: Annotated[
        Literal["auto", "logistic", "temperature", "isotonic", "none"],
        typer.Option(
            help="How the scores of the head become probabilities; auto: whichever has the smallest log-loss on "
            "held-out parts of train.",
            rich_help_panel=JUDGING,
        ),
    ] = "auto"
    prevalence: Prevalence = None
    robustness: Annotated[
        bool,
        typer.Option(
            help="Also leave out each site and each device in turn, fit again, and judge on what was left out.",
            rich_help_panel=JUDGING,
        ),
    ] = False
    measurements: Measurements = None
    pretrain_participants: Pretrained = None
    allow_near_copies: NearCopies = None
    random_twin: Annotated[
        str | None,
        typer.Option(
            help="Store of the same volumes from an untrained encoder (extract-embeddings --encoder random:base): the "
            "same search and head run on it, for comparison.",
            rich_help_panel=JUDGING,
        ),
    ] = None

    @property
    def label_source(self) -> "LabelSource":
        """Return where labels and splits are; folds may take the place of splits. Raises: UsageError."""
        if self.cross_validate and self.make_splits:
            raise UsageError(
                "--make-splits and --cross-validate: expected one of them; made splits lock a part of the people as "
                "test, cross-validation judges everybody and claims no test split"
            )
        return replace(super().label_source, folds=self.cross_validate, crosses=True)
