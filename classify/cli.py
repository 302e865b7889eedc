"""Console script ``classify``: parses and calls; heavy imports live inside the commands."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from classify.options import (
    CORES,
    Aggregate,
    Calibrate,
    Device,
    Endpoint,
    Engine,
    Folds,
    Jobs,
    Json,
    Layer,
    Measurements,
    Minutes,
    NearCopies,
    Nested,
    Pool,
    Pretrained,
    Prevalence,
    RayAddress,
    Replicates,
    Resplit,
    Robustness,
    Runs,
    Seed,
    Seeds,
    TokenGrid,
    Trials,
    ViewsToLearn,
)
from classify.study_commands import parse_names, read_store, study_commands
from embeddings_store.console import emit_json, new_app, run_command, say

TWIN_HELP = (
    "Store of the same volumes by extract-embeddings --encoder random:base: the same search and head stand beside"
)
TASK_HELP = "four-class, healthy-vs-rest, medicated-vs-not, insulin-vs-rest, or a FILE.yaml of your own"

app = new_app("Train small heads on stored OCT embeddings, and judge them honestly. Research use only.")


@app.callback()
def classify() -> None:
    """Train small heads on stored OCT embeddings, and judge them honestly. Research use only."""


@app.command()
def probe(
    *,
    model: Annotated[str, typer.Option(help="linear, mlp, lgbm, ordinal, knn, attentive, mil or dummy")],
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    task: Annotated[str, typer.Option(help=TASK_HELP)] = "four-class",
    layer: Layer = "auto",
    pool: Pool = "auto",
    token_grid: TokenGrid = None,
    views: ViewsToLearn = None,
    device: Device = "cpu",
    aggregate: Aggregate = "auto",
    trials: Trials = 0,
    minutes: Minutes = None,
    folds: Folds = None,
    jobs: Jobs = CORES,
    nested: Nested = False,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    seeds: Seeds = 1,
    calibrate: Calibrate = "auto",
    prevalence: Prevalence = None,
    robustness: Robustness = False,
    seed: Seed = 0,
    replicates: Replicates = 2000,
    measurements: Measurements = None,
    pretrain_participants: Pretrained = None,
    allow_near_copies: NearCopies = None,
    random_twin: Annotated[str | None, typer.Option(help=TWIN_HELP)] = None,
    runs: Runs = Path("runs"),
    resplit: Resplit = None,
    endpoint_url: Endpoint = None,
    json: Json = False,
) -> None:
    """Fit one head on train, judge it on val beside the baselines; test stays locked.

    Example: classify probe --model linear --store store --participants participants.tsv --trials 50
    """
    from datetime import UTC, datetime

    from classify.probe import ProbeOptions
    from classify.probe import probe as run_probe
    from classify.summary import print_summary
    from classify.tokens import parse_token_grid

    options = ProbeOptions(
        model=model, participants=participants, task=task,
        layer=layer, pools=parse_names("--pool", pool), aggregate=aggregate, trials=trials, minutes=minutes,
        folds=folds, jobs=jobs, nested=nested, engine=engine, ray_address=ray_address, seeds=seeds,
        calibrate=calibrate, prevalence=prevalence, robustness=robustness, seed=seed, replicates=replicates,
        measurements=measurements, pretrain_participants=pretrain_participants, random_twin=random_twin,
        runs=runs, command=("classify", *sys.argv[1:]), resplit=resplit, allow_near_copies=allow_near_copies,
        token_grid=None if token_grid is None else parse_token_grid(token_grid), device=device, views=views,
    )  # fmt: skip
    read_twin = partial(read_store, random_twin, endpoint_url) if random_twin else None
    done = run_probe(options, now=datetime.now(UTC), read=lambda: read_store(store, endpoint_url), read_twin=read_twin)
    print_summary(done.record)
    say(f"run: {done.folder}")
    if json:
        emit_json(done.record.to_dict() | {"path": str(done.folder)})


@app.command()
def evaluate(
    *,
    run: Annotated[Path, typer.Option(help="Folder of a finished run of classify probe")],
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    participants: Annotated[Path, typer.Option(help="participants.tsv, the one of the run")],
    split: Annotated[str, typer.Option(help="test: unlocks it, and writes a line into the ledger beside the runs")],
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates")] = 2000,
    measurements: Measurements = None,
    pretrain_participants: Pretrained = None,
    random_twin: Annotated[str | None, typer.Option(help="Store of the run's random twin, to look at it too")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="S3 endpoint of the store")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run record on stdout")] = False,
) -> None:
    """Look at the locked test split with a finished run; every look is counted.

    Example: classify evaluate --run runs/20261122-150301-linear-four-class-0a1b2c --store store
    --participants participants.tsv --split test
    """
    from collections.abc import Mapping
    from datetime import UTC, datetime
    from typing import Any

    from classify.evaluate import EvaluateOptions
    from classify.evaluate import evaluate as run_evaluate
    from classify.summary import print_evaluation
    from classify.tokens import with_tokens
    from embeddings_store.snapshot import Snapshot, read_features_source, read_snapshot

    def read(record: Mapping[str, Any]) -> Snapshot:
        number = record["snapshot"]["number"]
        if isinstance(number, int):  # a store that has grown since still holds the snapshot of the run
            snapshot = read_snapshot(store, number, endpoint_url=endpoint_url)
        else:
            snapshot = read_features_source(store, endpoint_url=endpoint_url)
        return with_tokens(snapshot, store, endpoint_url=endpoint_url)

    options = EvaluateOptions(
        run,
        participants,
        split,
        replicates,
        command=("classify", *sys.argv[1:]),
        measurements=measurements,
        pretrain_participants=pretrain_participants,
        random_twin=random_twin,
    )
    read_twin = None if random_twin is None else lambda: read_store(random_twin, endpoint_url)
    done = run_evaluate(options, now=datetime.now(UTC), read=read, read_twin=read_twin)
    print_evaluation(done.record, done.looks)
    say(f"run: {done.folder}")
    if json:
        emit_json(done.record | {"path": str(done.folder)})


@app.command()
def baselines(
    *,
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    task: Annotated[str, typer.Option(help=TASK_HELP)] = "four-class",
    measurements: Measurements = None,
    allow_near_copies: NearCopies = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap")] = 0,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates")] = 2000,
    endpoint_url: Annotated[str | None, typer.Option(help="S3 endpoint of the store")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object on stdout")] = False,
) -> None:
    """Judge age, site, device and the like alone on val, without any head; writes no run, and test stays locked.

    Example: classify baselines --store store --participants participants.tsv --measurements measurement.csv
    """
    from classify.judge_baselines import BaselineOptions, judge_baselines
    from classify.summary import print_baselines
    from embeddings_store.snapshot import Snapshot, read_features_source

    def read() -> Snapshot:
        snapshot = read_features_source(store, endpoint_url=endpoint_url)
        say(f"store: {len(snapshot.index)} volumes, {snapshot.note}")
        return snapshot

    options = BaselineOptions(participants, task, measurements, seed, replicates, allow_near_copies)
    judged = judge_baselines(options, read=read)
    print_baselines(judged)
    if json:
        emit_json(judged)


app.add_typer(study_commands)


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
