"""The commands of classify that look across models, and those that use a finished one; cli.py takes them in."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classify.options import (
    CORES,
    Aggregate,
    Device,
    Endpoint,
    Jobs,
    Json,
    Layer,
    Measurements,
    Minutes,
    NearCopies,
    Pool,
    Pretrained,
    Prevalence,
    Replicates,
    Resplit,
    Runs,
    Seed,
    TokenGrid,
    Trials,
)
from embeddings_store.console import emit_json, say
from embeddings_store.errors import UsageError

if TYPE_CHECKING:
    from classify.compare import Compared
    from classify.learning_curve import Curve
    from embeddings_store.snapshot import Snapshot

study_commands = typer.Typer()


Stores = Annotated[
    list[str] | None, typer.Option(help="NAME=ADDRESS of the embeddings of one encoder; give one for each")
]
Models = Annotated[str, typer.Option(help="Heads, with commas between: linear,lgbm,mlp")]
Tasks = Annotated[
    str | None,
    typer.Option(help="Tasks, with commas between; if not given: four-class, or that of --run where no store is given"),
]
Finished = Annotated[
    list[Path] | None, typer.Option(help="A finished run to stand beside, of classify probe or finetune")
]
TwinName = Annotated[
    str | None, typer.Option(help="NAME of the store of the encoder with random weights: every head is held against it")
]


@study_commands.command()
def compare(
    *,
    store: Stores = None,
    models: Models = "linear",
    participants: Annotated[Path | None, typer.Option(help="participants.tsv; needed with --store")] = None,
    tasks: Tasks = None,
    run: Finished = None,
    random_twin: TwinName = None,
    trials: Trials = 0,
    minutes: Minutes = None,
    layer: Layer = "auto",
    pool: Pool = "auto",
    aggregate: Aggregate = "auto",
    token_grid: TokenGrid = None,
    device: Device = "cpu",
    measurements: Measurements = None,
    pretrain_participants: Pretrained = None,
    allow_near_copies: NearCopies = None,
    jobs: Jobs = CORES,
    seed: Seed = 0,
    replicates: Replicates = 2000,
    runs: Runs = Path("runs"),
    resplit: Resplit = None,
    endpoint_url: Endpoint = None,
    json: Json = False,
) -> None:
    """Compare encoders, heads and tasks in one leaderboard, on val alone: paired intervals, baselines, seconds.

    Example: classify compare --store oct=store_oct --store random=store_random --random-twin random
    --models linear,lgbm,mlp --tasks four-class,healthy-vs-rest --participants participants.tsv

    Every cell is a run of classify probe below --runs; a cell that was made from the same inputs before is not made
    again, so a comparison that broke off goes on. The leaderboard lies in comparisons/ below --runs. Test stays locked.
    """
    from datetime import UTC, datetime

    from classify.compare import CompareOptions
    from classify.compare import compare as run_compare
    from classify.probe import ProbeOptions
    from classify.study_tables import print_comparison
    from classify.tokens import parse_token_grid

    stores, command, template = parse_stores(store or []), ("classify", *sys.argv[1:]), None
    if participants is not None:
        template = ProbeOptions(
            model="", participants=participants, layer=layer, pools=parse_names("--pool", pool), aggregate=aggregate,
            trials=trials, minutes=minutes, jobs=jobs, seed=seed, replicates=replicates, resplit=resplit,
            token_grid=None if token_grid is None else parse_token_grid(token_grid), measurements=measurements,
            pretrain_participants=pretrain_participants, device=device, allow_near_copies=allow_near_copies,
            command=command,
        )  # fmt: skip
    asked = tasks or ("four-class" if stores else None)
    options = CompareOptions(
        stores, parse_names("--models", models), parse_names("--tasks", asked) if asked else (), template,
        tuple(run or []), random_twin, replicates, seed, runs, command,
    )  # fmt: skip
    read = partial(read_store, endpoint_url=endpoint_url)
    done = run_compare(options, clock=lambda: datetime.now(UTC), read=read, tell=say)
    print_comparison(done.record)
    emit_folder(done, "comparison", json=json)


@study_commands.command("learning-curve")
def learning_curve(
    *,
    model: Annotated[str, typer.Option(help="linear, mlp, lgbm, ordinal, knn or dummy")],
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    task: Annotated[str, typer.Option(help="A task by name, or a FILE.yaml of your own")] = "four-class",
    fractions: Annotated[
        str, typer.Option(help="Shares of the participants of train, with commas between")
    ] = "0.1,0.2,0.4,0.6,0.8,1.0",
    repeats: Annotated[int, typer.Option(min=1, help="How often other participants are drawn for each share")] = 5,
    trials: Trials = 0,
    minutes: Minutes = None,
    layer: Layer = "auto",
    pool: Pool = "auto",
    aggregate: Aggregate = "auto",
    token_grid: TokenGrid = None,
    device: Device = "cpu",
    jobs: Jobs = CORES,
    seed: Seed = 0,
    replicates: Replicates = 2000,
    allow_near_copies: NearCopies = None,
    runs: Runs = Path("runs"),
    resplit: Resplit = None,
    endpoint_url: Endpoint = None,
    json: Json = False,
) -> None:
    """Fit one head on growing parts of train and judge each on val: would more participants help?

    Example: classify learning-curve --model linear --store store --participants participants.tsv --repeats 10

    Participants are drawn class by class with all of their scans, each part inside the next larger one. Parameters are
    chosen once, on all of train. The curve lies in learning-curves/ below --runs. Test stays locked.
    """
    from datetime import UTC, datetime

    from classify.learning_curve import CurveOptions
    from classify.learning_curve import learning_curve as trace
    from classify.probe import ProbeOptions
    from classify.study_tables import print_curve
    from classify.tokens import parse_token_grid

    probed = ProbeOptions(
        model=model, participants=participants, task=task, layer=layer, pools=parse_names("--pool", pool),
        aggregate=aggregate, trials=trials, minutes=minutes, jobs=jobs, seed=seed, replicates=replicates, runs=runs,
        command=("classify", *sys.argv[1:]), device=device, resplit=resplit,
        allow_near_copies=allow_near_copies,
        token_grid=None if token_grid is None else parse_token_grid(token_grid),
    )  # fmt: skip
    options = CurveOptions(probed, parse_fractions(fractions), repeats)
    done = trace(options, now=datetime.now(UTC), read=partial(read_store, store, endpoint_url), tell=say)
    print_curve(done.record)
    emit_folder(done, "learning curve", json=json)


@study_commands.command()
def predict(
    *,
    run: Annotated[Path, typer.Option(help="Folder of a finished run of classify probe")],
    store: Annotated[str, typer.Option(help="Folder or s3:// address of the embeddings; labels are not needed")],
    out: Annotated[Path, typer.Option(help="Where the lines go: a name that ends in .parquet or .csv")] = Path(
        "predictions.parquet"
    ),
    abstain_below: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Abstain where the calibrated probability of the likeliest class is lower: below 0.5 the answer is "
            "more likely wrong than right. 0: never",
        ),
    ] = 0.5,
    ood_percentile: Annotated[
        float,
        typer.Option(min=0, max=100, help="Abstain where a scan lies farther than this percent of train. 100: never"),
    ] = 99.0,
    prevalence: Prevalence = None,
    answer_unknown: Annotated[
        bool,
        typer.Option(
            "--answer-unknown",
            help="Answer scans whose device, protocol, size or brightness is unlike all of training, too",
        ),
    ] = False,
    nearest: Annotated[int, typer.Option(min=0, help="Training participants to name beside each volume")] = 3,
    participants_only: Annotated[
        bool, typer.Option("--participants-only", help="Write lines of participants, none of eyes and volumes")
    ] = False,
    endpoint_url: Endpoint = None,
    json: Json = False,
) -> None:
    """Predict a store's volumes, eyes and participants with a finished run, and say where not to trust it.

    Example: classify predict --run runs/20261122-150301-lgbm-four-class-0a1b2c --store new_store --out new.csv

    Every line has calibrated probabilities, how far the scan lies from the training embeddings, quality flags, the
    nearest training cases, and whether the run abstains, with the reason; no line is dropped. Scans of a device or
    protocol that training did not hold are not answered, and of a size or brightness unlike its own the run abstains
    (--answer-unknown). The run's own test participants stay locked until classify evaluate has looked at them.
    Research use only.
    """
    from classify.predict import PredictOptions
    from classify.predict import predict as run_predict
    from classify.study_tables import print_prediction

    options = PredictOptions(
        run, out, abstain_below, ood_percentile, nearest, participants_only, prevalence, answer_unknown
    )
    done = run_predict(options, read=lambda: read_store(store, endpoint_url))
    print_prediction(done.summary)
    if json:
        emit_json(done.summary)


def read_store(address: str, endpoint_url: str | None) -> "Snapshot":
    """Read all rows of a store, with the way to its patch tokens, and say what was read."""
    from classify.tokens import with_tokens
    from embeddings_store.snapshot import read_features_source

    snapshot = read_features_source(address, endpoint_url=endpoint_url)
    say(f"store: {len(snapshot.index)} volumes, {snapshot.note}")
    return with_tokens(snapshot, address, endpoint_url=endpoint_url)


def emit_folder(done: "Compared | Curve", what: str, *, json: bool) -> None:
    """Say where a result was saved, and print its record where that was asked for."""
    say(f"{what}: {done.folder}")
    if json:
        emit_json(done.record | {"path": str(done.folder)})


def parse_stores(texts: list[str]) -> dict[str, str]:
    """Read NAME=ADDRESS; a missing, odd or repeated name is a UsageError."""
    stores: dict[str, str] = {}
    for text in texts:
        name, _, address = text.partition("=")
        if not name or not address or "/" in name:
            raise UsageError(f"--store: expected NAME=ADDRESS with a short name, such as oct=store, got {text!r}")
        if name in stores:
            raise UsageError(f"--store: the name {name} stands twice; give each store a name of its own")
        stores[name] = address
    return stores


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """Read names with commas between; an empty or repeated one is a UsageError."""
    names = tuple(text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option}: expected different names with commas between, got {text!r}")
    return names


def parse_fractions(text: str) -> tuple[float, ...]:
    """Read "0.1,0.5,1"; what is no number is a UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--fractions: expected numbers with commas between, such as 0.5,1, got {text!r}") from error
