"""Console script ``finetune``: parses and calls; heavy imports live inside the commands."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classify.options import Engine, Measurements, NearCopies, Pretrained, RayAddress, Replicates, Resplit
from embeddings_store.console import emit_json, new_app, run_command, say
from finetune.command_options import (
    BatchSize,
    Bucket,
    CacheDir,
    Checkpoint,
    Config,
    Device,
    Endpoint,
    Epochs,
    Heads,
    ImageSize,
    Interpolate,
    Json,
    Limit,
    LookBucket,
    ParallelKind,
    Prefix,
    RandomEncoder,
    Run,
    Runs,
    RunTable,
    SearchedStages,
    Seed,
    Set,
    Split,
    Stages,
    Store,
    Study,
    Table,
    TaskName,
    Trials,
)

if TYPE_CHECKING:
    from finetune.train import Finetuned

HELP = """Train the encoder end to end, in stages, on the volumes of a bucket, and judge it honestly. Research use only.

    Keeps what does best on val and writes a run folder; test stays locked.

    Example: finetune --checkpoint best.pt --bucket eye-dataset --participants participants.tsv --stages head,last

    The same command goes on where it was killed. Under torchrun, each process takes its share of every batch.
    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done, but some volumes could not be used.
"""

app = new_app(HELP)


@app.callback(invoke_without_command=True)
def finetune(
    context: typer.Context,
    *,
    bucket: Bucket = None,
    participants: Table = None,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    store: Store = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    image_size: ImageSize = None,
    task: TaskName = "four-class",
    stages: Stages = "head,last,all",
    config: Config = None,
    change: Set = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    parallel: ParallelKind = None,
    device: Device = "auto",
    limit: Limit = None,
    seed: Seed = 0,
    replicates: Replicates = 2000,
    runs: Runs = Path("runs"),
    cache_dir: CacheDir = None,
    measurements: Measurements = None,
    pretrain_participants: Pretrained = None,
    allow_near_copies: NearCopies = None,
    resplit: Resplit = None,
    json: Json = False,
) -> None:
    """Train; see HELP."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from finetune.options import parse_options
    from finetune.processes import open_processes, require_several_processes
    from finetune.train import finetune as run_finetune

    if parallel is not None:
        require_several_processes("--parallel")
    options = parse_options(**{name: value for name, value in context.params.items() if name != "json"})
    done = run_finetune(options, now=datetime.now(UTC), tell=say, processes=open_processes())
    if done is not None:
        _finish(done, as_json=json)


def _finish(done: "Finetuned", *, as_json: bool) -> None:
    from classify.summary import print_summary
    from finetune.train import OPTIMISTIC

    print_summary(done.record)
    say(f"stages: {done.record.parameters['stages_compared']['note']}")
    say(OPTIMISTIC)
    _tell_failures(done.failures)
    say(f"run: {done.folder}")
    if as_json:
        emit_json(done.record.to_dict() | {"path": str(done.folder), "errors": done.failures})
    if done.failures:
        raise typer.Exit(3)


def _tell_failures(failures: Mapping[str, int]) -> None:
    for error, count in sorted(failures.items()):
        say(f"not used: {count:,} volumes with {error}")


@app.command()
def evaluate(
    *,
    run: Run,
    participants: RunTable,
    split: Split,
    bucket: LookBucket = None,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    device: Device = "auto",
    replicates: Replicates = 2000,
    measurements: Measurements = None,
    pretrain_participants: Pretrained = None,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Look at the locked test split with a finished run; every look is counted. Runs in one process.

    Example: finetune evaluate --run runs/20261122-150301-finetune-four-class-0a1b2c --bucket eye-dataset
    --participants participants.tsv --split test

    Exit codes: as for training; 3: done, but some volumes of test could not be used.
    """
    from datetime import UTC, datetime

    from classify.look import EvaluateOptions
    from classify.summary import print_evaluation
    from finetune.evaluate import LookOptions
    from finetune.evaluate import evaluate as look
    from finetune.processes import require_one_process

    require_one_process()
    asked = EvaluateOptions(
        run, participants, split, replicates, command=("finetune", *sys.argv[1:]), measurements=measurements,
        pretrain_participants=pretrain_participants,
    )  # fmt: skip
    options = LookOptions(asked, bucket, prefix, endpoint_url, device, cache_dir)
    done = look(options, now=datetime.now(UTC), tell=say)
    print_evaluation(done.record, done.looks)
    failures = done.record["evaluations"][-1]["failures"]
    _tell_failures(failures)
    say(f"run: {done.folder}")
    if json:
        emit_json(done.record | {"path": str(done.folder)})
    if failures:
        raise typer.Exit(3)


@app.command()
def tune(
    context: typer.Context,
    *,
    study: Study,
    trials: Trials,
    bucket: Bucket = None,
    participants: Table = None,
    prefix: Prefix = "",
    endpoint_url: Endpoint = None,
    store: Store = None,
    checkpoint: Checkpoint = None,
    encoder: RandomEncoder = None,
    heads: Heads = None,
    interpolate: Interpolate = False,
    image_size: ImageSize = None,
    task: TaskName = "four-class",
    stages: SearchedStages = "head,last",
    config: Config = None,
    change: Set = None,
    device: Device = "auto",
    limit: Limit = None,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    cache_dir: CacheDir = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Search rates, batch size, head and depth on held-back participants of train; val and test are not looked at.

    Example: finetune tune --study study --trials 30 --checkpoint best.pt --bucket eye-dataset
    --participants participants.tsv

    The same command goes on where it was stopped, by either engine. On a cluster, all machines must see --runs.
    """
    from finetune.options import parse_options
    from finetune.search.ray_engine import RayCluster
    from finetune.tune import tune as search

    own = {"study", "trials", "engine", "ray_address", "json"}
    words = {name: value for name, value in context.params.items() if name not in own}
    cluster = None if ray_address is None else RayCluster(ray_address)
    found = search(parse_options(**words), trials=trials, folder=study, tell=say, engine=engine, cluster=cluster)
    say(f"best of {found.record['trials']} trials: {found.record['best']['value']:.3f}; use --config {study}/best.yaml")
    if json:
        emit_json(found.record | {"path": str(found.folder)})


@app.command()
def montage(
    files: Annotated[list[Path], typer.Argument(help="A multi-frame OCT DICOM file; a second one is mixed into it.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png).")],
    config: Config = None,
    change: Set = None,
    image_size: Annotated[str, typer.Option(help="D,H,W in voxels.")] = "64,384,384",
    seed: Seed = 0,
) -> None:
    """Draw what augmentation does to a volume: each change alone, then volumes as training sees them.

    Example: finetune montage scan.dcm --out montage.png
    """
    from extract.options import parse_image_size
    from finetune.augment.look import draw_files
    from finetune.recipe import load_config

    augment = load_config(config, changes=change or ()).augment
    draw_files(files, out, augment, image_size=parse_image_size(image_size), seed=seed)
    say(f"wrote {out}")


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)
