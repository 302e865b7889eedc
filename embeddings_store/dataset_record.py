"""Which public dataset a store is of: its tasks, its splits and the labels of its scans, kept once with the store.

``dataset.json`` is sealed as ``encoder.json`` is, and no part of the embedding space; a store without it is of no
dataset by name. Who joins labels reads it with read_dataset_record.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from embeddings_store.checksums import SEAL, seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import StoreError
from embeddings_store.storage import Storage

PATH = "dataset.json"
KNOWN = ("file", "participant", "eye", "split", "visit")
"""Columns of every line of labels, before those of the dataset. file: the key below the prefix."""


@dataclass(frozen=True, slots=True)
class DatasetTask:
    """A question that a dataset answers by name, such as amd of a2a.

    target: the label column. classes: in order, of two the second is the one to be found; groups: the values of target
    that make each class; values of no class are left out. same_as: what it means in every dataset that asks the same,
    such as "amd-normal"; these tasks have the same classes, so that one trained here can be tested there.
    """

    name: str
    target: str
    kind: Literal["binary", "nominal", "ordered", "number"]
    level: Literal["participant", "eye", "scan"]
    classes: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same_as: str = ""

    def class_of(self, value: str) -> str:
        """Return the class of a value as it is written; of a number the value; "" where it makes none."""
        if self.kind == "number":
            return value
        return next((one for one in self.classes if value in self.groups.get(one, (one,))), "")


@dataclass(frozen=True, slots=True)
class SplitScheme:
    """How people are split. official: what the words of the published split mean (train, val, test); {} where there is
    none, or it lacks a part. otherwise: by made splits, or by cross-validation where people are few.
    """

    official: Mapping[str, str] = field(default_factory=dict)
    otherwise: Literal["made", "cross"] = "made"


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One scan: its key, whose it is, the split and visit as the dataset calls them, and labels, "" not known."""

    file: str
    participant: str
    eye: str
    split: str
    visit: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset by name. columns: of the labels, in order. lines: every scan of the listing, in order of keys.

    notes: what readers of a number from it should know, such as that ids are samples and no patients.
    """

    name: str
    title: str
    citation: str
    licence: str
    tasks: tuple[DatasetTask, ...]
    splits: SplitScheme
    columns: tuple[str, ...]
    lines: tuple[LabelLine, ...]
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON types; the lines as one text in CSV, so that 100,000 of them stay small."""
        return asdict(replace(self, lines=())) | {"lines": write_lines(self)}


def write_lines(record: DatasetRecord) -> str:
    """Write the lines as CSV: KNOWN, then the columns of the dataset."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a lone \r would be torn else
    table.writerow((*KNOWN, *record.columns))
    for one in record.lines:
        known = (one.file, one.participant, one.eye, one.split, one.visit)
        table.writerow((*known, *(one.labels.get(name, "") for name in record.columns)))
    return text.getvalue()


def read_dataset_record(storage: Storage) -> DatasetRecord | None:
    """Read the dataset of a store; None where it is of none by name. Raises: StoreError for a damaged record."""
    body = storage.get(PATH)
    if body is None:
        return None
    fault = seal_fault(body)
    if fault is None:
        try:
            record = parse_object(body)
            record.pop(SEAL, None)
            return _parse(record)
        except (AttributeError, KeyError, TypeError, ValueError, csv.Error):
            fault = "it has other fields than expected"
    raise StoreError(
        f"{storage.url} is damaged: {PATH}: {fault}; delete it, and the next extraction from the dataset writes it"
    )


def put_dataset_record(storage: Storage, record: DatasetRecord) -> None:
    """Write the dataset of a store; of processes that do so at once all write the same."""
    storage.put(PATH, sealed_json(record.to_record()))


def _parse(record: Mapping[str, Any]) -> DatasetRecord:
    header, *rows = csv.reader(io.StringIO(record["lines"], newline=""))
    columns = tuple(header[len(KNOWN) :])
    return DatasetRecord(
        record["name"],
        record["title"],
        record["citation"],
        record["licence"],
        tuple(_parse_task(one) for one in record["tasks"]),
        SplitScheme(**record["splits"]),
        columns,
        tuple(_parse_line(columns, *row) for row in rows),
        tuple(record["notes"]),
    )


def _parse_line(
    columns: Sequence[str], file: str, participant: str, eye: str, split: str, visit: str, *labels: str
) -> LabelLine:
    return LabelLine(
        file,
        participant,
        eye,
        split,
        visit,
        {name: label for name, label in zip(columns, labels, strict=True) if label},
    )


def _parse_task(raw: Mapping[str, Any]) -> DatasetTask:
    groups = {name: tuple(values) for name, values in raw["groups"].items()}
    return DatasetTask(**{**raw, "classes": tuple(raw["classes"]), "groups": groups})
