"""Console script ``classify``: parses and calls; heavy imports live inside the commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.console import emit_json, new_app, run_command, say
from embeddings_store.errors import UsageError

app = new_app("Train small heads on stored OCT embeddings, and judge them honestly. Research use only.")


@app.callback()
def classify() -> None:
    """Train small heads on stored OCT embeddings, and judge them honestly. Research use only."""


@app.command()
def probe(
    *,
    model: Annotated[str, typer.Option(help="linear, mlp, lgbm, ordinal, knn or dummy")],
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    task: Annotated[
        str, typer.Option(help="four-class, healthy-vs-rest, medicated-vs-not or insulin-vs-rest")
    ] = "four-class",
    layer: Annotated[str, typer.Option(help="A layer that the store holds")] = "last",
    pool: Annotated[str, typer.Option(help="Pools that the store holds: mean, or mean,max,std")] = "mean",
    trials: Annotated[int, typer.Option(min=0, help="Optuna trials inside train; 0: safe defaults")] = 0,
    calibrate: Annotated[
        str, typer.Option(help="temperature, isotonic or none; fitted on val, used by evaluate")
    ] = "temperature",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Fit again without each site and device, and judge there")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of heads, folds and bootstrap")] = 0,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates")] = 2000,
    runs: Annotated[Path, typer.Option(help="Where run folders go")] = Path("runs"),
    endpoint_url: Annotated[str | None, typer.Option(help="S3 endpoint of the store")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run record on stdout")] = False,
) -> None:
    """Fit one head on train, judge it on val beside the baselines; test stays locked."""
    from datetime import UTC, datetime

    from classify.probe import ProbeOptions
    from classify.probe import probe as run_probe
    from classify.summary import print_summary
    from embeddings_store.snapshot import Snapshot, read_features_source

    def read() -> Snapshot:
        snapshot = read_features_source(store, endpoint_url=endpoint_url)
        say(f"store: {len(snapshot.index)} volumes, {snapshot.note}")
        return snapshot

    options = ProbeOptions(
        model=model,
        participants=participants,
        task=task,
        layer=layer,
        pools=parse_pools(pool),
        trials=trials,
        calibrate=calibrate,
        robustness=robustness,
        seed=seed,
        replicates=replicates,
        runs=runs,
        command=("classify", *sys.argv[1:]),
    )
    done = run_probe(options, now=datetime.now(UTC), read=read)
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
    endpoint_url: Annotated[str | None, typer.Option(help="S3 endpoint of the store")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run record on stdout")] = False,
) -> None:
    """Look at the locked test split with a finished run; every look is counted."""
    from collections.abc import Mapping
    from datetime import UTC, datetime
    from typing import Any

    from classify.evaluate import EvaluateOptions
    from classify.evaluate import evaluate as run_evaluate
    from classify.summary import print_evaluation
    from embeddings_store.snapshot import Snapshot, read_features_source, read_snapshot

    def read(record: Mapping[str, Any]) -> Snapshot:
        number = record["snapshot"]["number"]
        if isinstance(number, int):  # a store that has grown since still holds the snapshot of the run
            return read_snapshot(store, number, endpoint_url=endpoint_url)
        return read_features_source(store, endpoint_url=endpoint_url)

    options = EvaluateOptions(run, participants, split, replicates, command=("classify", *sys.argv[1:]))
    done = run_evaluate(options, now=datetime.now(UTC), read=read)
    print_evaluation(done.record, done.looks)
    say(f"run: {done.folder}")
    if json:
        emit_json(done.record | {"path": str(done.folder)})


def parse_pools(text: str) -> tuple[str, ...]:
    """Read "mean,max,std"; an empty or repeated name is a UsageError."""
    pools = tuple(text.split(","))
    if "" in pools or len(set(pools)) < len(pools):
        raise UsageError(f"--pool: expected different names with commas between, such as mean,max, got {text!r}")
    return pools


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
