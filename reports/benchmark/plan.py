"""What a benchmark's PLAN.yaml says: datasets, encoders, heads, a reference; read to the end or refused in one line."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from classify.cohort.tasks import FILE_SUFFIXES, TASKS
from classify.heads import HEADS
from classify.question_options import TargetOptions
from classify.run.record import RECORD
from classify.study_options import CompareOptions
from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import read_mapping
from extract.encoder.families import FAMILIES
from extract.encoder_options import EncoderReading, Preprocessing, parse_slices, stands_alone
from extract.layouts.datasets import dataset_names
from extract.layouts.options import LayoutOptions, parse_layout

SCANS = tuple(one.name for one in (*fields(LayoutOptions), *fields(Preprocessing)) if one.name != "slices")
WHERE = (
    "bucket",
    "prefix",
    "where",
    "limit",
    "endpoint_url",
    *(n for n in SCANS if n not in ("frames_of_all", "single_pictures")),
)
"""What a dataset says of its scans, under the names of the options of extract-embeddings."""

ASKED = (
    "cross_validate",
    "pretrain_participants",
    "allow_near_copies",
    *(n.name for n in fields(TargetOptions) if n.name != "seed"),
)
"""What a dataset says of its labels, under the names of the options of classify compare."""

TARGET = ("target", "kind", "classes", "positive", "level", "covariates", "exclude")
ENCODER = ("family", "checkpoint", "slices", *(one.name for one in fields(EncoderReading)))
FITTED = ("trials", "minutes", "seed", "replicates", "layer", "pools", "aggregate", "token_grid")
ENCODED = ("precision", "batch_size", "tokens", "usd_per_hour")
PLAN = ("datasets", "encoders", "heads", "reference", "judge", "same", *FITTED, *ENCODED)
TABLES = ("labels", "participants", "pretrain_participants", "allow_near_copies")
FILES = ("bucket", "scans", "pseudonyms", "checkpoint", *TABLES)
"""Whose values are places next to the plan."""

REPEATED = ("mask", "tasks", "runs")
"""Lists whose parts stand alone, and are not typed with commas between."""

NOT_OFFICIAL = ("make_splits", "split_column", "cross_validate", "labels", "participants", "allow_near_copies")
"""What a dataset may not say if it takes the published split."""

FINE_TUNED = "fine-tuned"
"""What the tables call the runs of finetune that a plan names."""

Judge = Literal["val", "test"]


@dataclass(frozen=True)
class DatasetPlan:
    """scans: words of extract-embeddings; asked: words of classify compare.

    tasks: by name the word or file that asks it, None: a target of asked. The first one stands for the dataset.
    runs: folders of finished runs of finetune that stand next to the frozen encoders.
    """

    name: str
    scans: Mapping[str, Any]
    asked: Mapping[str, Any]
    tasks: Mapping[str, str | None]
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """An encoder with its number of slices, as it stands in the tables. family: None where the file says it."""

    name: str
    encoder: str
    family: str | None
    checkpoint: Path | None
    slices: str | None
    reading: Mapping[str, Any]

    @property
    def slice_count(self) -> float:
        """Return how many slices it takes: infinity for all."""
        count = 0 if self.slices is None else parse_slices(self.slices)
        return float(count) if isinstance(count, int) else math.inf


@dataclass(frozen=True)
class Plan:
    """A whole plan. fitted, encoded: words of classify compare, of extract-embeddings. same: tasks of one meaning.

    digest: of what the file says, whatever its order or comments.
    """

    name: str
    datasets: tuple[DatasetPlan, ...]
    variants: tuple[Variant, ...]
    heads: tuple[str, ...]
    reference: str
    judge: Judge
    same: Mapping[str, tuple[str, ...]]
    fitted: Mapping[str, Any]
    encoded: Mapping[str, Any]
    digest: str


def read_plan(path: Path) -> Plan:
    """Read a plan; places in it are next to it. Raises: UsageError, naming the nearest word where one is unknown."""
    where = f"plan {path.name}"
    raw = read_mapping(path, where)
    require_known(raw, PLAN, where)
    for name in ("datasets", "encoders", "heads"):
        if not raw.get(name):
            raise UsageError(f"{where}: {name}: expected at least one, got none")
    datasets = tuple(
        _dataset(name, of, where, path.parent) for name, of in _named(raw["datasets"], f"{where}: datasets")
    )
    encoders = _named(raw["encoders"], f"{where}: encoders")
    variants = tuple(one for name, of in encoders for one in _variants(name, of, where, path.parent))
    heads = _words(raw["heads"], f"{where}: heads")
    for head in heads:
        require_known([head], HEADS, f"{where}: heads")
    reference = str(raw.get("reference", variants[0].name))
    known = [one.name for one in variants]
    require_known([reference], known, f"{where}: reference")
    if (judge := raw.get("judge", "val")) not in ("val", "test"):
        raise UsageError(f"{where}: judge: expected val or test, got {judge!r}")
    fitted = {name: raw[name] for name in FITTED if name in raw}
    encoded = {name: raw[name] for name in ENCODED if name in raw}
    with _within(where):
        parse_words(CompareOptions, **fitted)
    return Plan(
        path.stem, datasets, variants, heads, reference, judge, _same(raw.get("same", {}), datasets, where), fitted,
        encoded, sha256(repr(_sorted(raw)).encode()).hexdigest(),
    )  # fmt: skip


def require_known(words: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises: UsageError for the first word that is not known, naming the nearest one."""
    known = list(known)
    for word in words:
        if word not in known:
            near = get_close_matches(str(word), known, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise UsageError(f"{where}: expected any of {', '.join(known)}, got {word!r}{hint}")


def asked_of(plan: Plan, dataset: DatasetPlan, task: str, **words: Any) -> CompareOptions:
    """Return the options of classify compare for one task of a dataset; words: stores, models, runs."""
    word = dataset.tasks[task]
    asked = {name: value for name, value in dataset.asked.items() if word is None or name not in TARGET}
    return parse_words(CompareOptions, **plan.fitted, **asked, **words, tasks=None if word is None else (word,))


def _asks(asked: Mapping[str, Any], words: tuple[str, ...], where: str) -> dict[str, str | None]:
    """Name the tasks, having tried them as options before anything is opened."""
    targets = dict(asked) if "target" in asked else {n: v for n, v in asked.items() if n not in TARGET}
    with _within(where):
        options = parse_words(CompareOptions, **targets)
        if options.labels or options.participants:
            _ = options.probe("linear", "", None).label_source
        named: dict[str, str | None] = {options.question(None).name: None} if "target" in asked else {}
        alone = parse_words(CompareOptions, **{n: v for n, v in asked.items() if n not in TARGET})
        named |= {_name_of(alone, word): word for word in words}
    if len(named) < len(words) + ("target" in asked):
        raise UsageError(f"{where}: tasks: two of them have the same name; expected different ones: {', '.join(named)}")
    return named


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Say in which part of the plan an option is wrong."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _name_of(options: CompareOptions, word: str) -> str:
    """Return the name of a task: of a public dataset's own, which no table is given for, the part after the dataset."""
    own = options.labels is None and options.participants is None and word not in TASKS
    return word.rpartition("/")[2] if own and not word.endswith(FILE_SUFFIXES) else options.question(word).name


def _named(raw: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected names, each with its settings below it, got {type(raw).__name__}")
    seen: dict[str, str] = {}
    for name in raw:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,39}", name, re.ASCII):
            raise UsageError(f"{where}: {name!r}: expected a name of at most 40 letters, digits, dots, - and _")
        if (twin := seen.setdefault(name.lower(), name)) != name:
            raise UsageError(
                f"{where}: {twin} and {name} differ only in upper and lower case; give each a name of its own"
            )
    return list(raw.items())


def _dataset(name: str, raw: Any, where: str, folder: Path) -> DatasetPlan:
    where = f"{where}: datasets: {name}"
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected keys and values, such as bucket: data, got {type(raw).__name__}")
    require_known(raw, ("tasks", "runs", *WHERE, *ASKED), where)
    if "bucket" not in raw:
        raise UsageError(f"{where}: bucket: expected a folder or address, got none")
    if "layout" in raw:
        with _within(where):
            parse_layout(str(raw["layout"]))
    raw = {key: _place(value, folder) if key in FILES else _text(key, value) for key, value in raw.items()}
    tasks = _words(raw.get("tasks", []), f"{where}: tasks")
    tasks = tuple(_place(one, folder) if one.endswith(FILE_SUFFIXES) else one for one in tasks)
    if not tasks and "target" not in raw:
        raise UsageError(f"{where}: tasks: expected names or .yaml files, or target: COLUMN of labels, got neither")
    own = name if name in dataset_names() else "auto"
    scans = {"layout": own} | {key: value for key, value in raw.items() if key in WHERE}
    asked = {key: value for key, value in raw.items() if key in ASKED}
    if asked.get("official_splits") and (also := [key for key in NOT_OFFICIAL if key in asked]):
        raise UsageError(f"{where}: official_splits: not with {also[0]}; expected one of them")
    runs = tuple(_place(one, folder) for one in _words(raw.get("runs", []), f"{where}: runs"))
    if len({Path(one).name for one in runs}) < len(runs):
        raise UsageError(f"{where}: runs: two folders have the same name; give each run once, under a name of its own")
    if gone := [one for one in runs if not (Path(one) / RECORD).is_file()]:
        raise UsageError(f"{where}: runs: expected the folder of a finished run, got {gone[0]}")
    return DatasetPlan(name, scans, asked, _asks(asked, tasks, where), runs)


def _variants(name: str, raw: Any, where: str, folder: Path) -> list[Variant]:
    where = f"{where}: encoders: {name}"
    if name.lower() == FINE_TUNED:
        raise UsageError(f"{where}: that is what the tables call the runs of finetune; give the encoder another name")
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected keys and values, such as family: retfound, got {type(raw).__name__}")
    require_known(raw, ENCODER, where)
    family, file = raw.get("family"), raw.get("checkpoint")
    if family is None and file is None:
        raise UsageError(f"{where}: expected a family, a checkpoint, or both, got neither")
    if family is not None and not stands_alone(str(family)) and not str(family).endswith(".py"):
        require_known([family], FAMILIES, f"{where}: family")
    given = raw.get("slices")
    slices = _words(given if isinstance(given, list) else [] if given is None else [given], f"{where}: slices")
    reading = {key: _text(key, value) for key, value in raw.items() if key not in ("family", "checkpoint", "slices")}
    with _within(where):
        for one in slices:
            parse_slices(one)
        parse_words(EncoderReading, **reading)
    path = None if file is None else Path(_place(file, folder))
    names = [f"{name}@{one}" for one in slices] if len(slices) > 1 else [name]
    return [
        Variant(called, name, None if family is None else str(family), path, one, reading)
        for called, one in zip(names, slices or (None,), strict=True)
    ]


def _same(raw: Any, datasets: tuple[DatasetPlan, ...], where: str) -> dict[str, tuple[str, ...]]:
    """Read which tasks of several datasets mean the same."""
    known = [f"{one.name}/{task}" for one in datasets for task in one.tasks]
    found = {name: _words(of, f"{where}: same: {name}") for name, of in _named(raw, f"{where}: same")}
    for name, tasks in found.items():
        require_known(tasks, known, f"{where}: same: {name}")
        if len({task.partition("/")[0] for task in tasks}) < max(2, len(tasks)):
            raise UsageError(f"{where}: same: {name}: expected a task of each of two or more datasets, got {tasks}")
    return found


def _words(raw: Any, where: str) -> tuple[str, ...]:
    words = tuple(str(one) for one in raw) if isinstance(raw, list) else (str(raw),)
    if "" in words or len(set(words)) < len(words):
        raise UsageError(f"{where}: expected different names, got {', '.join(words)}")
    return words


def _text(key: str, value: Any) -> Any:
    """Give a value as it would be typed, so that options read it: a list with commas between, but of repeated ones."""
    return ",".join(map(str, value)) if isinstance(value, list) and key not in REPEATED else value


def _place(value: Any, folder: Path) -> str:
    text = str(value)
    return text if "://" in text or Path(text).is_absolute() else str(folder / text)


def _sorted(raw: Any) -> Any:
    return sorted((key, _sorted(value)) for key, value in raw.items()) if isinstance(raw, dict) else raw
