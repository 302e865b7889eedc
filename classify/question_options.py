"""The options that say where labels stand and what is asked of them; every verb that joins labels has them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embeddings_store.command_line import Options, Text
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import IN_AND_OUT, Seed

if TYPE_CHECKING:
    from classify.cohort.labels import LabelSource
    from classify.cohort.questions import Question

QUESTION = "The question"
FIRST_TASK = "four-class"
TASK_HELP = (
    "four-class, healthy-vs-rest, medicated-vs-not, insulin-vs-rest, a FILE.yaml of your own, or, without --labels, "
    "DATASET/TASK of a store of a public dataset, such as a2a/amd."
)

TaskName = Annotated[
    str | None,
    typer.Option(help=f"{TASK_HELP} If not given: {FIRST_TASK}, or what --target says.", rich_help_panel=QUESTION),
]


def names_text(option: str, default: str | None = None) -> Text:
    """Return how names with commas between are read; an empty or repeated one is a UsageError."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(","))
        if "" in names or len(set(names)) < len(names):
            raise UsageError(f"{option}: expected different names with commas between, got {text!r}")
        return names

    return Text(parse, default)


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """Which table has the labels: AI-READI's participants.tsv, or any other."""

    participants: Annotated[
        Path | None, typer.Option(help="AI-READI's participants.tsv.", rich_help_panel=IN_AND_OUT)
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Any table (CSV, TSV) with one line per participant, eye or scan: columns that name it (participant, "
            "eye, file), and the columns to predict, which --target chooses.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = None
    split_column: Annotated[
        str | None,
        typer.Option(
            help="Column of --labels that holds train, val or test, or the number of a fold to cross-validate by; if "
            "not given: splits.csv next to --labels, and without that file the column split.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = None

    @property
    def label_source(self) -> "LabelSource":
        """Return where the labels are. Raises: UsageError where there is no table, or there are two."""
        from classify.cohort.labels import LabelSource

        if (self.participants is None) == (self.labels is None):
            given = "both" if self.labels else "neither"
            raise UsageError(
                f"--labels or --participants: expected one of them, got {given}; --participants is AI-READI's "
                "participants.tsv, --labels any table with a column to ask for with --target"
            )
        if self.split_column and self.labels is None:
            raise UsageError("--split-column: goes with --labels; participants.tsv has recommended_split")
        return LabelSource(self.participants, self.labels, self.split_column)


def parse_shares(text: str) -> tuple[float, float, float]:
    """Read "70/15/15"; else UsageError."""
    from classify.cohort.made_splits import parse_shares as parse

    return parse(text)


@dataclass(frozen=True, kw_only=True)
class TargetOptions(TableOptions):
    """What is asked of the labels, where no task file says it. What is not given is found from the labels."""

    official_splits: Annotated[
        bool,
        typer.Option(
            help="Use the published split of a public dataset, even though some people are in more than one part of "
            "it.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = False
    make_splits: Annotated[
        tuple[float, float, float] | None,
        Text(parse_shares),
        typer.Option(
            help="Divide the participants of --labels into train/val/test, in percent, such as 70/15/15. The splits "
            "are kept in splits.csv next to it, and every later run on these labels uses them.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = None
    seed: Seed = 0
    target: Annotated[
        str | None,
        typer.Option(
            help="Column of --labels to predict; classify probe takes several, separated by commas, and makes a run of "
            "each.",
            rich_help_panel=QUESTION,
        ),
    ] = None
    kind: Annotated[
        Literal["binary", "nominal", "ordered", "number"] | None,
        typer.Option(help="Kind of --target; if not given, it follows from the values.", rich_help_panel=QUESTION),
    ] = None
    classes: Annotated[
        tuple[str, ...] | None,
        names_text("--classes"),
        typer.Option(
            help="Values of --target that are the classes, in their order, separated by commas.",
            rich_help_panel=QUESTION,
        ),
    ] = None
    positive: Annotated[
        str | None, typer.Option(help="The class to detect, where there are two.", rich_help_panel=QUESTION)
    ] = None
    level: Annotated[
        Literal["participant", "eye", "scan"] | None,
        typer.Option(
            help="What one label belongs to, and therefore what is judged; if not given, the finest that --labels has.",
            rich_help_panel=QUESTION,
        ),
    ] = None
    covariates: Annotated[
        tuple[str, ...] | None,
        names_text("--covariates"),
        typer.Option(
            help="Columns of --labels for the baseline that every result is compared with; if not given: age and site.",
            rich_help_panel=QUESTION,
        ),
    ] = None
    exclude: Annotated[
        tuple[str, ...] | None,
        names_text("--exclude"),
        typer.Option(help="Values of --target to leave out, separated by commas.", rich_help_panel=QUESTION),
    ] = None

    @property
    def label_source(self) -> "LabelSource":
        """Return where labels and splits are. Raises: UsageError as above, and for two ways to say the splits."""
        found = super().label_source
        if self.make_splits is None:
            return found
        if self.labels is None:
            raise UsageError("--make-splits: goes with --labels; participants.tsv has recommended_split")
        if self.split_column:
            raise UsageError(
                f"--make-splits and --split-column {self.split_column}: expected one of them; a column says the splits"
            )
        from classify.cohort.made_splits import check_shares

        return replace(found, shares=check_shares(self.make_splits), seed=self.seed)

    def question(self, task: str | None) -> "Question":
        """Return what is asked: a task by name or file, or --target. Raises: UsageError."""
        from classify.cohort.questions import Question
        from classify.cohort.tasks import find_question, name_of_target

        mine = {name: getattr(self, name) for name in ("kind", "classes", "positive", "level", "covariates", "exclude")}
        given = [f"--{name}" for name, value in mine.items() if value is not None]
        if self.target is not None and task is not None:
            raise UsageError(f"--task {task} and --target {self.target}: expected one of them; a task names its target")
        if self.target is None:
            if given:
                raise UsageError(f"{given[0]}: goes with --target; a task says it itself")
            if task is None and self.labels is not None:
                raise UsageError(
                    f"--labels {self.labels.name}: expected --target COLUMN, or --task FILE.yaml, got neither"
                )
            return find_question(task or FIRST_TASK)
        if self.labels is None:
            raise UsageError(f"--target {self.target}: expected --labels FILE with that column, got none")
        return Question(
            name=name_of_target(self.target), where=f"--target {self.target}", target=self.target,
            kind=self.kind, classes=self.classes, positive=self.positive, level=self.level,
            covariates=self.covariates, exclude=self.exclude or (),
        )  # fmt: skip
