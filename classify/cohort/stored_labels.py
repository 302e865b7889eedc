"""Labels of a public dataset by name, from a store that was made of it: published once below the runs.

labels_of_store(address, runs) -> StoredLabels: ``.labels`` is ``<runs>/labels/<dataset>-<digest>/labels.csv``, an
ordinary table for --labels, and ``.task("amd")`` a task file for --task; every verb reads both as if a person had
written them: ``classify probe --task a2a/amd`` is ``--labels .../labels.csv --task .../amd.yaml``. The digest is of
what the labels say and of no encoder: stores of one dataset share the folder, and with it splits.csv. In it
labels_of_dataset.json says which dataset it is, what was noticed and what to cite; left_out.csv lists scans with
contradicting labels.

Scans of equal voxels under two participants make them one person, before any split is made (see equal_scans).
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from classify.cohort.equal_scans import Groups, equal_scans, one_person_each
from classify.cohort.splits import SPLITS
from classify.errors import CohortError, RunFolderError
from embeddings_store.dataset_record import DatasetRecord, DatasetTask, LabelLine, read_dataset_record
from embeddings_store.errors import UsageError
from embeddings_store.publish import published
from embeddings_store.reader import open_reader
from embeddings_store.schema import volume_id
from embeddings_store.snapshot import Snapshot
from embeddings_store.text_table import fold_name

FOLDER, LABELS, FACTS, LEFT_OUT = "labels", "labels.csv", "labels_of_dataset.json", "left_out.csv"


@dataclass(frozen=True)
class StoredLabels:
    """Published labels. official: the published split is in them; shared: how many people lie in several of its parts.

    otherwise: how people are split where it is not: "made" or "cross".
    """

    labels: Path
    dataset: str
    tasks: tuple[DatasetTask, ...]
    official: bool
    shared: int
    otherwise: str

    def task(self, name: str) -> Path:
        """Return the file of a task, by its name with or without that of the dataset. Raises: UsageError."""
        dataset, _, own = name.rpartition("/")
        if dataset and dataset != self.dataset:
            raise UsageError(f"--task {name}: the store is of the dataset {self.dataset}; give a store of {dataset}")
        known = [one.name for one in self.tasks]
        if own not in known:
            near = get_close_matches(own, known, n=1, cutoff=0.5)
            hint = f"; did you mean {self.dataset}/{near[0]}?" if near else ""
            raise UsageError(f"--task {name}: {self.dataset} has the tasks {', '.join(known)}, got {own!r}{hint}")
        return self.labels.parent / f"{own}.yaml"


@dataclass(frozen=True)
class Published:
    """What FACTS next to a table of labels says: notes for every reader of a number, and the origin.

    owners: the person of each volume, which the labels know better than a store.
    """

    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None
    owners: Mapping[str, str] = field(default_factory=dict)

    @property
    def leaks(self) -> bool:
        """Return whether the published split was taken although people lie in several of its parts."""
        return bool(self.origin and self.origin["official"] and self.origin["shared_people"])

    def own(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return an index (volume, participant) with the people that the labels know."""
        if not self.owners:
            return index
        known = index["volume"].astype(str).map(self.owners)
        return index.assign(participant=known.fillna(index["participant"]))

    def reading(self, read: Callable[..., Snapshot]) -> Callable[..., Snapshot]:
        """Return a way to open stores whose volumes are the people's that the labels know."""

        def opened(*args: Any, **named: Any) -> Snapshot:
            stored = read(*args, **named)
            return replace(stored, index=self.own(stored.index))

        return opened if self.owners else read


def published_with(labels: Path | None) -> Published:
    """Return what is said of labels that labels_of_store made; nothing of any other table. Raises: CohortError."""
    if labels is None or labels.name != LABELS or not (path := labels.parent / FACTS).is_file():
        return Published()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        origin = {name: found[name] for name in ("dataset", "citation", "licence", "official", "shared_people")}
        with labels.open(encoding="utf-8", newline="") as file:
            owners = {str(volume_id(line["file"])): line["participant"] for line in csv.DictReader(file)}
        return Published(tuple(found["notes"]), {**origin, "folder": labels.parent.name}, owners)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"{path}: expected what labels of a dataset come with, which cannot be read; delete the folder and start "
            "again"
        ) from error


def labels_of_store(
    address: str, runs: Path, *, official: bool = False, endpoint_url: str | None = None
) -> StoredLabels:
    """Publish the labels of a store's dataset below the runs, or find them there.

    official: take the published split although it leaks. Raises: StoreError; UsageError where the store is of no
    dataset by name, or there is no published split to take; RunFolderError.
    """
    reader = open_reader(address, endpoint_url=endpoint_url)
    record = read_dataset_record(reader.storage)
    if record is None:
        raise UsageError(
            f"--store {address}: it names no dataset, so it brings no tasks and no labels; extract again from the "
            "dataset (that adds its labels and encodes nothing twice), or give --labels FILE with --target COLUMN"
        )
    return labels_of_record(record, equal_scans(reader), runs, official=official)


def labels_of_record(record: DatasetRecord, equal: Groups, runs: Path, *, official: bool = False) -> StoredLabels:
    """Do the same with a record and the groups of equal scans, by key."""
    person = one_person_each({line.file: line.participant for line in record.lines}, equal)
    lines = [replace(line, participant=person[line.file]) for line in record.lines]
    scheme = record.splits.official
    sound = set(SPLITS) <= set(scheme.values())
    if official and not sound:
        raise UsageError(
            f"--official-splits: {record.name} has no published split of train, val and test; leave it out, or give "
            "--make-splits 70/15/15"
        )
    lines = [replace(line, split=scheme.get(line.split, "")) for line in lines]
    shared = _in_several(lines) if sound else {}
    taken = sound and (official or not shared)
    if taken and shared:
        lines = [
            replace(line, participant=f"{line.participant} ({line.split})") if line.participant in shared else line
            for line in lines
        ]
    values, left_out = _values(record, lines, equal)
    table = _table(record, lines, values, with_split=taken)
    notes = [*_notes(record, lines, shared, left_out, person, taken=taken), *record.notes]
    facts = {
        "dataset": record.name, "title": record.title, "citation": record.citation, "licence": record.licence,
        "tasks": [asdict(task) for task in record.tasks], "official": taken, "shared_people": len(shared),
        "left_out": len(left_out), "notes": notes,
    }  # fmt: skip
    files = {
        FACTS: json.dumps(facts, indent=1),
        LEFT_OUT: _csv(("file", "participant", "task", "classes", "reason"), left_out),
        **{f"{task.name}.yaml": _task_file(record, task) for task in record.tasks},
        LABELS: table,
    }
    folder = runs / FOLDER / f"{record.name}-{_digest(files)}"
    _publish(folder, files, runs)
    return StoredLabels(folder / LABELS, record.name, record.tasks, taken, len(shared), record.splits.otherwise)


def column_of(task: DatasetTask) -> str:
    """Name the column of a task's classes: by its meaning where other datasets ask the same, else by its name."""
    return fold_name(task.same_as or task.name)


def _in_several(lines: Sequence[LabelLine]) -> dict[str, set[str]]:
    """Find the people who lie in several parts of the published split."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if line.participant and line.split:
            found[line.participant].add(line.split)
    return {person: parts for person, parts in found.items() if len(parts) > 1}


def _values(
    record: DatasetRecord, lines: Sequence[LabelLine], equal: Groups
) -> tuple[dict[str, dict[str, str]], list[tuple[str, ...]]]:
    """Give the class of each scan for each task, {column: {file: class}}, and the scans that are left out of one.

    Equal scans with two classes are left out, and so are a person's, or an eye's, where the label belongs to it.
    """
    found, left_out = dict[str, dict[str, str]](), list[tuple[str, ...]]()
    owner = {line.file: line.participant for line in lines}
    for task in record.tasks:
        values = {line.file: task.class_of(line.labels.get(task.target, "")) for line in lines}
        groups = [(group, "equal voxels with several labels") for group in equal]
        if task.kind != "number" and task.level != "scan":
            groups += [(unit, f"one {task.level} with several labels") for unit in _units(lines, task.level)]
        for group, reason in groups:
            said = sorted({values.get(file, "") for file in group} - {""})
            if len(said) > 1:
                labelled = [file for file in group if values.get(file)]
                left_out += [(file, owner[file], task.name, " ".join(said), reason) for file in labelled]
                values |= dict.fromkeys(labelled, "")
        found[column_of(task)] = values
    return found, sorted(left_out)


def _units(lines: Sequence[LabelLine], level: str) -> list[tuple[str, ...]]:
    units: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for line in lines:
        unit = (line.participant,) if level == "participant" else (line.participant, line.eye)
        if "" not in unit:
            units[unit].append(line.file)
    return [tuple(files) for files in units.values()]


def _table(
    record: DatasetRecord, lines: Sequence[LabelLine], values: Mapping[str, Mapping[str, str]], *, with_split: bool
) -> str:
    """Write the table: who and where, the columns of the dataset, and the classes of each task."""
    own = [name for name in record.columns if fold_name(name) not in values]
    header = ["file", "participant", "eye", *(["split"] if with_split else []), "visit", *own, *values]
    rows = (
        [
            line.file, line.participant, line.eye, *([line.split] if with_split else []), line.visit,
            *(line.labels.get(name, "") for name in own), *(told.get(line.file, "") for told in values.values()),
        ]
        for line in lines
    )  # fmt: skip
    return _csv(header, rows)


def _notes(
    record: DatasetRecord, lines: Sequence[LabelLine], shared: Mapping[str, set[str]],
    left_out: Sequence[tuple[str, ...]], person: Mapping[str, str], *, taken: bool,
) -> list[str]:  # fmt: skip
    said = []
    if shared:
        what = "; ".join(
            f"{sum({a, b} <= parts for parts in shared.values())} in {a} and {b}"
            for a, b in (("train", "test"), ("train", "val"), ("val", "test"))
        )
        leak = f"{record.name}: {len(shared)} people lie in several parts of the published split ({what})"
        said.append(
            f"WARNING: {leak}; it was taken all the same (--official-splits): these people count once in each part, "
            "and a number on val or test is too good for people who were never seen"
            if taken
            else f"{leak}; it is not used: people are split anew, each in one part (--official-splits takes it)"
        )
    joined = {line.participant for line in record.lines} - set(person.values()) - {""}
    if joined:
        said.append(
            f"{record.name}: {len(joined)} participants have scans of equal voxels with another one, and count as one "
            "person with it"
        )
    for reason in sorted({one[-1] for one in left_out}):
        files = {(one[0], one[2]) for one in left_out if one[-1] == reason}
        tasks = ", ".join(sorted({task for _, task in files}))
        said.append(
            f"{record.name}: {len({file for file, _ in files})} scans are left out of {tasks}: {reason}; listed in "
            f"{LEFT_OUT} next to the labels"
        )
    nobody = sum(not line.participant for line in lines)
    return [*said, *([f"{record.name}: {nobody} scans have no participant"] if nobody else [])]


def _task_file(record: DatasetRecord, task: DatasetTask) -> str:
    """Write a task file, in the JSON that is YAML."""
    name = f"{record.name}-{task.name}".replace("_", "-")
    told: dict[str, Any] = {"name": name, "target": column_of(task), "kind": task.kind, "level": task.level}
    if task.classes:
        told |= {"classes": list(task.classes), "groups": {one: [one] for one in task.classes}}
    if task.kind == "binary":
        told["positive"] = task.classes[1]
    return json.dumps(told, indent=1)


def _csv(header: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue()


def _digest(files: Mapping[str, str]) -> str:
    return sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]


def _publish(folder: Path, files: Mapping[str, str], runs: Path) -> None:
    """Write the files of a folder that is not there yet, whole, the folder last."""
    if (folder / LABELS).is_file():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with published(folder) as aside:
            aside.mkdir()
            for name, text in files.items():
                (aside / name).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        if (folder / LABELS).is_file():  # another process was faster, and wrote the same
            return
        raise RunFolderError(
            f"--runs {runs}: expected a folder that can be written, got: {error.strerror}; choose another --runs"
        ) from error
