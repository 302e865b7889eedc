"""The commands of classify that look across models, and those that use a finished one; cli.py takes them in."""

from typing import TYPE_CHECKING

import typer

from classify.run_options import PredictOptions
from classify.study_options import CompareOptions, CurveOptions
from embeddings_store.command_line import verb
from embeddings_store.shared_options import Json
from embeddings_store.terminal.console import emit_json, show

if TYPE_CHECKING:
    from classify.compare import Compared
    from classify.learning_curve import Curve
    from classify.targets import Targets

study_commands = typer.Typer()


@verb(study_commands)
def compare(options: CompareOptions, *, json: Json = False) -> None:
    """Compare encoders, heads and tasks in one leaderboard, on val alone: paired intervals, baselines, seconds.

    Example: classify compare --store oct=store_oct --store random=store_random --random-twin random
    --models linear,lgbm,mlp --tasks four-class,healthy-vs-rest --participants participants.tsv

    Every cell is a run of classify probe below --runs; a cell that was made from the same inputs before is not made
    again, so a comparison that broke off goes on. The leaderboard lies in comparisons/ below --runs. Test stays locked.
    """
    from classify.compare import compare as run_compare
    from classify.comparing.study_tables import print_comparison

    done = run_compare(options)
    print_comparison(done.record)
    emit_folder(done, "comparison", json=json)


@verb(study_commands, "learning-curve")
def learning_curve(options: CurveOptions, *, json: Json = False) -> None:
    """Fit one head on growing parts of train and judge each on val: would more participants help?

    Example: classify learning-curve --model linear --store store --participants participants.tsv --repeats 10

    Participants are drawn class by class with all of their scans, each part inside the next larger one. Parameters are
    chosen once, on all of train. The curve lies in learning-curves/ below --runs. Test stays locked.
    """
    from classify.comparing.study_tables import print_curve
    from classify.learning_curve import learning_curve as trace

    done = trace(options)
    print_curve(done.record)
    emit_folder(done, "learning curve", json=json)


@verb(study_commands)
def predict(options: PredictOptions, *, json: Json = False) -> None:
    """Predict a store's volumes, eyes and participants with a finished run, and say where not to trust it.

    Example: classify predict --run 20261122-150301-lgbm-four-class-0a1b2c --store new_store --out new.csv

    Labels are not needed. Every line has calibrated probabilities, how far the scan lies from the training embeddings,
    quality flags, the nearest training cases, and whether the run abstains, with the reason; no line is dropped. Scans
    of a device or protocol that training did not hold are not answered, and of a size or brightness unlike its own the
    run abstains (--answer-unknown). The run's own test participants stay locked until classify evaluate has judged
    them. Research use only.
    """
    from classify.comparing.study_tables import print_prediction
    from classify.predict import predict as run_predict

    done = run_predict(options)
    print_prediction(done.summary)
    if json:
        emit_json(done.summary)


def emit_folder(done: "Compared | Curve | Targets", what: str, *, json: bool) -> None:
    """Say where a result was saved, and print its record where that was asked for."""
    show(f"{what}: {done.folder}")
    if json:
        from classify.run.typed_record import as_json

        emit_json(as_json(done.record) | {"path": str(done.folder)})
