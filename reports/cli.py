"""Console script ``reports``: parses and calls; heavy imports live inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.console import emit_json, new_app, run_command, say

app = new_app("Make pages that can be checked from finished runs, and mirror runs to MLflow or W&B. Research use only.")

MLFLOW_URI = "sqlite:///mlflow.db"
DEFAULT_PLACES = {"mlflow": MLFLOW_URI, "wandb": "."}

# Headings of the groups of options of case in --help.
READ = "What is read, and with what"
CHOSEN = "Which run and whom"

Runs = Annotated[Path, typer.Option(help="Folder of finished runs")]


@app.callback()
def reports() -> None:
    """Make pages that can be checked from finished runs, and mirror runs to MLflow or W&B. Research use only."""


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
    """Write one self-contained page over all runs of a task.

    Example: reports study --store ./store --runs ./runs --out ./report
    """
    from datetime import UTC, datetime

    from classify.source import rebuild_features
    from embeddings_store.reader import open_reader
    from reports.coverage import read_store_facts
    from reports.encoders import encoder_part
    from reports.study import StudyOptions, write_study

    facts = read_store_facts(open_reader(store, endpoint_url=endpoint_url))
    written = write_study(
        StudyOptions(runs, out, task, cohort),
        facts=facts,
        features_of=lambda run: rebuild_features(run, store, endpoint_url=endpoint_url),
        now=datetime.now(UTC),
    )
    mark = ["SYNTHETIC PHANTOM: these numbers say nothing about people."] if written.phantom else []
    if untrained := encoder_part(written.runs)["untrained"]:
        mark.append(f"RANDOM WEIGHTS: {untrained}")
    for line in (*written.warnings, *mark, written.headline.claim, f"page: {written.page}"):
        say(line)
    if json:
        emit_json(written.to_record())


@app.command()
def case(
    *,
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder that gets case-<participant>.html")],
    store: Annotated[
        str | None,
        typer.Option(help="Embeddings that a probe reads; with tokens they show where", rich_help_panel=READ),
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Volumes: for B-scans, and for a fine-tuned model", rich_help_panel=READ)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Where the dataset lies in the bucket", rich_help_panel=READ)] = "",
    run: Annotated[
        str | None, typer.Option(help="Which run", show_default="the best probe by validation", rich_help_panel=CHOSEN)
    ] = None,
    participant: Annotated[
        str, typer.Option(help="ID,...", show_default="a few telling ones of validation", rich_help_panel=CHOSEN)
    ] = "",
    export: Annotated[bool, typer.Option("--export", help="Also write each map as NIfTI and as DICOM")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or auto, for a fine-tuned model (default: cpu)", rich_help_panel=READ)
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="S3 endpoint of store and bucket", rich_help_panel=READ)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written on stdout")] = False,
) -> None:
    """Write a page a participant: what the model says, whether to trust it here, and where it read evidence.

    Example: reports case --store ./store --runs ./runs --out ./report --bucket ./bucket --participant 1001,4010

    A fine-tuned model reads the volumes again: reports case --runs ./runs --out ./report --bucket ./bucket --run ID
    """
    from datetime import UTC, datetime

    from classify.tokens import with_tokens
    from embeddings_store.reader import open_reader
    from embeddings_store.snapshot import read_features_source
    from extract.bucket.source import open_source
    from reports.case import CaseOptions, Opened, OpenedStore, write_cases

    people = tuple(name.strip() for name in participant.split(",") if name.strip())
    opened = Opened(
        OpenedStore(
            open_reader(store, endpoint_url=endpoint_url),
            with_tokens(read_features_source(store, endpoint_url=endpoint_url), store, endpoint_url=endpoint_url),
        )
        if store
        else None,
        open_source(bucket, prefix, endpoint_url) if bucket else None,
    )
    options = CaseOptions(runs, out, run, people, export, device)
    written = write_cases(options, opened, now=datetime.now(UTC))
    for one in written:
        say(f"case {one.participant}: {one.scans} scans, {one.size_bytes / 1e6:.1f} MB, {one.page}")
    if json:
        emit_json({"cases": [one.to_record() for one in written]})


@app.command()
def serve(
    *,
    runs: Runs,
    pages: Annotated[Path, typer.Option(help="OUT of reports study and reports case")],
    host: Annotated[str, typer.Option(help="Loopback unless you say otherwise: pages show participants")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8750,
    mlflow_url: Annotated[str | None, typer.Option(help="Address of a running MLflow page, to link it")] = None,
) -> None:
    """Serve a read-only dashboard of runs and pages until Ctrl-C.

    Example: reports serve --runs ./runs --pages ./report
    """
    from contextlib import suppress
    from secrets import token_bytes

    from reports.serve import Dashboard, new_server

    with (
        new_server(Dashboard(runs, pages, token_bytes(16), mlflow_url), host, port) as server,
        suppress(KeyboardInterrupt),
    ):
        say(f"http://{host}:{server.server_port}/ (Ctrl-C ends it)")
        server.serve_forever()


@app.command()
def track(
    *,
    runs: Runs,
    to: Annotated[str, typer.Option(help="mlflow or wandb; WANDB_MODE=offline keeps a W&B mirror here")] = "mlflow",
    tracking_uri: Annotated[
        str | None, typer.Option(help=f"MLflow's records (default {MLFLOW_URI}), or W&B's local folder (default .)")
    ] = None,
    experiment: Annotated[str, typer.Option(help="Name of the MLflow experiment, or W&B project")] = "octprobe",
    figures: Annotated[Path | None, typer.Option(help="OUT of `reports study`: its page goes with the runs")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was mirrored on stdout")] = False,
) -> None:
    """Mirror finished runs to MLflow or W&B; a run that is there already is not doubled.

    Example: WANDB_MODE=offline reports track --runs ./runs --to wandb --figures ./report
    """
    from reports.trackers import open_tracker
    from reports.tracking import mirror_runs

    where = tracking_uri or DEFAULT_PLACES.get(to, "")
    mirrored = mirror_runs(runs, open_tracker(to, where, experiment), page_folder=figures)
    say(f"mirrored {len(mirrored.new)} runs; {len(mirrored.kept)} were there already: {where}")
    if json:
        emit_json(mirrored.to_record() | {"to": to, "tracking_uri": where, "experiment": experiment})


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
