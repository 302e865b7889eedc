"""The verbs from Python: each takes what its command takes, under the same names, and returns what it made.

``options`` are the options of the command with _ in place of - (``classify probe --help`` lists them):
``--image-size 32,96,96`` is ``image_size="32,96,96"`` or ``image_size=(32, 96, 96)``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings_store.command_line import parse_words

if TYPE_CHECKING:
    import pandas as pd

    from classify.run.folder import Run

Address = str | Path


def extract(bucket: Address, store: Address, **options: Any) -> dict[str, Any]:
    """Encode every volume of a bucket into a store, and return the account that the command prints with --json.

    What is there already is not encoded again; a volume that fails is a counted error row. One of checkpoint and
    encoder is needed. Raises OctProbeError where the run cannot go on.

    >>> import octprobe
    >>> done = octprobe.extract("bucket", "store", encoder="random:tiny", image_size="8,32,32", device="cpu")
    >>> done["selected"], done["committed"], done["errors"]
    (96, 96, {})
    """
    from extract.options import ExtractOptions
    from extract.pipeline import extract as run

    return run(parse_words(ExtractOptions, bucket=str(bucket), store=str(store), **options))


def probe(store: Address, participants: Address, *, model: str = "linear", **options: Any) -> "Run":
    """Fit one head on train, judge it on val next to the baselines, and return the run; test stays locked.

    Raises OctProbeError where the store or the table cannot be used.

    >>> import octprobe
    >>> run = octprobe.probe("store", "participants.tsv", task="healthy-vs-rest", replicates=50)
    >>> run.record.fitted.model, sorted(run.record.judged.metrics)
    ('linear', ['eye', 'participant', 'volume'])
    """
    from classify.options import ProbeOptions
    from classify.probe import probe as fit
    from classify.run.folder import load_run

    given = {"store": str(store), "participants": Path(participants), "model": model}
    return load_run(fit(parse_words(ProbeOptions, **given, **options)).folder)


def compare(
    stores: Mapping[str, Address], participants: Address, *, models: str = "linear,lgbm", **options: Any
) -> dict[str, Any]:
    """Compare encoders, heads and tasks in one leaderboard, on val alone; return the record that is saved.

    stores: the store of each encoder, by a name of your own. Raises OctProbeError where no cell can be made.

    >>> import octprobe
    >>> found = octprobe.compare(
    ...     {"tiny": "store"}, "participants.tsv", models="linear,dummy", tasks="healthy-vs-rest", replicates=50
    ... )
    >>> {"dummy", "linear"} <= {line["model"] for line in found["tasks"]["healthy-vs-rest"]["lines"]}
    True
    """
    from classify.compare import compare as run
    from classify.run.typed_record import as_json
    from classify.study_options import CompareOptions

    named = tuple(f"{name}={address}" for name, address in stores.items())
    given = {"store": named, "participants": Path(participants), "models": models}
    return as_json(run(parse_words(CompareOptions, **given, **options)).record)


def evaluate(run: Address, store: Address, participants: Address, *, split: str, **options: Any) -> "Run":
    """Evaluate a finished run on the locked split, which must be named: "test". Every evaluation is counted.

    Raises OctProbeError where the store is not the run's; the split was then not looked at.

    >>> import octprobe
    >>> from pathlib import Path
    >>> (folder,) = Path("runs").glob("*-linear-*")
    >>> run = octprobe.evaluate(folder, "store", "participants.tsv", split="test", replicates=50)
    >>> len(run.record.evaluations)
    1
    """
    from classify.evaluate import evaluate as look
    from classify.run.folder import load_run
    from classify.run_options import EvaluateOptions

    given = {"run": Path(run), "store": str(store), "participants": Path(participants), "split": split}
    return load_run(look(parse_words(EvaluateOptions, **given, **options)).folder)


def predict(run: Address, store: Address, *, out: Address = "predictions.parquet", **options: Any) -> "pd.DataFrame":
    """Predict a store with a finished run, write the lines to a file as the command does, and return them.

    In memory alone: ``load_run(run).predict(snapshot)``, with the same numbers. Raises OctProbeError where the store
    is of another space.

    >>> import octprobe
    >>> from pathlib import Path
    >>> (folder,) = Path("runs").glob("*-linear-*")
    >>> lines = octprobe.predict(folder, "store", out="lines.csv")
    >>> sorted(set(lines["level"]))
    ['eye', 'participant', 'volume']
    """
    from classify.predict import predict as run_predict
    from classify.run_options import PredictOptions

    given = {"run": Path(run), "store": str(store), "out": Path(out)}
    return run_predict(parse_words(PredictOptions, **given, **options)).table
