"""Console script ``reports``: parses and calls; heavy imports live inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.console import emit_json, new_app, run_command, say

app = new_app("Make pages that can be checked from finished runs, and mirror runs to MLflow. Research use only.")

Runs = Annotated[Path, typer.Option(help="Folder of finished runs")]


@app.callback()
def reports() -> None:
    """Make pages that can be checked from finished runs, and mirror runs to MLflow. Research use only."""


@app.command()
def study(
    *,
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder that gets study.html")],
    task: Annotated[str | None, typer.Option(help="Which task, where the runs have several")] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Which cohort (start of its sha256), where runs have several")
    ] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="S3 endpoint of the store")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what the page says on stdout")] = False,
) -> None:
    """Write one self-contained page over all runs of a task."""
    from datetime import UTC, datetime

    from classify.features import rebuild_features
    from embeddings_store.reader import open_reader
    from reports.coverage import read_store_facts
    from reports.study import StudyOptions, write_study

    facts = read_store_facts(open_reader(store, endpoint_url=endpoint_url))
    written = write_study(
        StudyOptions(runs, out, task, cohort),
        facts=facts,
        features_of=lambda run: rebuild_features(run, store, endpoint_url=endpoint_url),
        now=datetime.now(UTC),
    )
    mark = ("SYNTHETIC PHANTOM: these numbers say nothing about people.",) if written.phantom else ()
    for line in (*written.warnings, *mark, written.headline.claim, f"page: {written.page}"):
        say(line)
    if json:
        emit_json(written.to_record())


@app.command()
def track(
    *,
    runs: Runs,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its records")] = "sqlite:///mlflow.db",
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment")] = "octprobe",
    figures: Annotated[Path | None, typer.Option(help="OUT of `reports study`: its page goes with the runs")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was mirrored on stdout")] = False,
) -> None:
    """Mirror finished runs to MLflow; a run that is there already is not doubled."""
    from reports.mlflow_tracker import MlflowTracker
    from reports.tracking import mirror_runs

    mirrored = mirror_runs(runs, MlflowTracker(tracking_uri, experiment), page_folder=figures)
    say(f"mirrored {len(mirrored.new)} runs; {len(mirrored.kept)} were there already: {tracking_uri}")
    if json:
        emit_json(mirrored.to_record() | {"tracking_uri": tracking_uri, "experiment": experiment})


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
