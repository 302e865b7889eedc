"""The options of the verbs that look across models: compare and learning-curve."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from classify.options import (
    JUDGING,
    MODEL_HELP,
    CrossValidate,
    HeadOptions,
    Measurements,
    ModelName,
    NearCopies,
    Pretrained,
    ProbeOptions,
)
from classify.question_options import FIRST_TASK, TaskName, names_text
from embeddings_store.command_line import Text, several
from embeddings_store.errors import UsageError
from embeddings_store.shared_options import IN_AND_OUT, StoreAddress

FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def parse_fractions(text: str) -> tuple[float, ...]:
    """Read "0.1,0.5,1"; what is no number is a UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--fractions: expected numbers with commas between, such as 0.5,1, got {text!r}") from error


@dataclass(frozen=True, kw_only=True)
class CompareOptions(HeadOptions):
    """Stores x heads x tasks: the command line of ``classify compare``.

    Example: CompareOptions(store=("oct=store",), models=("linear", "lgbm"), participants=Path("participants.tsv")).
    """

    store: Annotated[
        str | tuple[str, ...],
        typer.Option(help="NAME=ADDRESS of the embeddings of one encoder; repeat it.", rich_help_panel=IN_AND_OUT),
    ] = ()
    models: Annotated[
        tuple[str, ...],
        names_text("--models", "linear"),
        typer.Option(help="Heads, with commas between: linear,lgbm,mlp."),
    ] = ("linear",)
    tasks: Annotated[
        tuple[str, ...] | None,
        names_text("--tasks"),
        typer.Option(
            help="Tasks, with commas between; if not given: four-class, or that of --run where no store is given.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = None
    run: Annotated[
        Path | tuple[Path, ...],
        typer.Option(
            help="A finished run to compare with, of classify probe or finetune: its folder, or its name below --runs.",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = ()
    random_twin: Annotated[
        str | None,
        typer.Option(
            help="NAME of the store whose encoder has random weights: every head is compared with the same head on it.",
            rich_help_panel=JUDGING,
        ),
    ] = None
    cross_validate: CrossValidate = None
    measurements: Measurements = None
    pretrain_participants: Pretrained = None
    allow_near_copies: NearCopies = None

    @property
    def stores(self) -> dict[str, str]:
        """Return the addresses by name. Raises UsageError for a missing, odd or repeated name."""
        stores: dict[str, str] = {}
        for text in several(self.store):
            name, _, address = text.partition("=")
            if not name or not address or "/" in name:
                raise UsageError(f"--store: expected NAME=ADDRESS with a short name, such as oct=store, got {text!r}")
            if name in stores:
                raise UsageError(f"--store: the name {name} stands twice; give each store a name of its own")
            stores[name] = address
        return stores

    @property
    def questions(self) -> tuple[str | None, ...]:
        """Return the tasks that were asked for, None for --target; none where those of the runs are meant."""
        if self.target is not None:
            return (*(self.tasks or ()), None)
        return self.tasks or ((FIRST_TASK,) if self.stores else ())

    def probe(self, model: Any, store: str, task: str | None) -> ProbeOptions:
        """Return the options of one cell."""
        return ProbeOptions(
            **self.shared(), model=model, store=store, task=task, cross_validate=self.cross_validate,
            measurements=self.measurements, pretrain_participants=self.pretrain_participants,
            allow_near_copies=self.allow_near_copies,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CurveOptions(HeadOptions):
    """One head on growing parts of train: the command line of ``classify learning-curve``."""

    model: Annotated[ModelName, typer.Option(help=MODEL_HELP)]
    store: StoreAddress
    task: TaskName = None
    allow_near_copies: NearCopies = None
    fractions: Annotated[
        tuple[float, ...],
        Text(parse_fractions, ",".join(map(str, FRACTIONS))),
        typer.Option(help="Shares of the participants of train, with commas between.", rich_help_panel=JUDGING),
    ] = FRACTIONS
    repeats: Annotated[
        int,
        typer.Option(min=1, help="How many times participants are drawn anew for each share.", rich_help_panel=JUDGING),
    ] = 5

    @property
    def probed(self) -> ProbeOptions:
        """Return the probe whose search chooses the parameters, once, on all of train."""
        return ProbeOptions(
            **self.shared(),
            model=self.model,
            store=self.store,
            task=self.task,
            allow_near_copies=self.allow_near_copies,
        )
