"""The eleven datasets in miniature, from their files to a probe of each of their tasks by name."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classify.named_tasks import with_stored_labels
from classify.options import ProbeOptions
from classify.probe import probe
from embeddings_store.command_line import parse_words
from embeddings_store.dataset_record import read_dataset_record
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.reader import open_reader
from extract.layouts.datasets import dataset_names, load_datasets
from extract.options import ExtractOptions
from extract.pipeline import extract
from finetune.data.named_labels import with_labels_of_dataset
from finetune.options import FinetuneOptions

SPLIT, ALONE, FOLDED = "needs a participant in train, val and test, and", "has one participant", "every class needs 3"
OUTCOMES = {
    "a2a": {"amd": ALONE, "age": "a fifth of the numbers have 2"},
    "cirrus_onh": {"glaucoma": f"{SPLIT} normal has 2"},
    "fairvision": {"amd": "none for intermediate, late", "any-amd": ALONE, "dr": "none for not vis", "glaucoma": ALONE},
    "gamma": {"glaucoma": ALONE, "grade": ALONE},
    "kermany_oct2017": {"disease": f"{SPLIT} DRUSEN has 2", "amd": ALONE, "dme": f"{ALONE}|{SPLIT}"},
    "neh_ut": {"disease": SPLIT, "amd": SPLIT},
    "noor_rasti": {"disease": FOLDED, "amd": FOLDED, "dme": FOLDED},
    "octdl": {"disease": SPLIT, "amd": SPLIT, "dme": SPLIT},
    "olives": {"disease": FOLDED, "bcva": "there are 4 participants", "cst": "there are 4 participants"},
    "retouch": {"irf": FOLDED, "srf": FOLDED, "ped": FOLDED},
    "srinivasan": {"disease": FOLDED, "amd": FOLDED, "dme": FOLDED},
}
"""What the refusal says of each task: a miniature has too few people for any of them."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stores")
    pictures = {"encoder": ["retfound"], "checkpoint": [reference / "encoders/retfound_mae/checkpoint.pth"], "heads": 3}
    for name, dataset in load_datasets().items():
        words: dict[str, Any] = pictures if dataset.unit == "picture" else {"encoder": ["random:tiny"]}
        usual = {"tokens": "none", "device": "cpu", "layout": name, "store": [str(folder / name)]}
        bucket = str(reference / "datasets" / name / "data")
        extract(parse_words(ExtractOptions, **{"bucket": bucket, **usual, **words}))
    yield folder


@pytest.mark.parametrize("name", dataset_names())
def test_each_task_is_asked_by_name(name: str, stores: Path, tmp_path: Path) -> None:
    record = read_dataset_record(open_reader(str(stores / name)).storage)
    assert record is not None
    assert {task.name for task in record.tasks} == OUTCOMES[name].keys()
    heard: list[str] = []
    for task, said in OUTCOMES[name].items():
        asked = ProbeOptions(
            model="linear", store=str(stores / name), task=f"{name}/{task}", runs=tmp_path, replicates=20
        )
        resolved = with_stored_labels(asked, (str(stores / name),), heard.append)
        assert resolved.labels is not None
        assert with_stored_labels(replace(asked, task=task), (str(stores / name),), heard.append) == resolved
        with pytest.raises(OctProbeError, match=said):
            probe(asked, tell=heard.append)
    if name == "kermany_oct2017":
        assert any("lie in several parts of the published split" in one for one in heard)
    if name == "neh_ut":
        assert any("2 scans are left out of disease: equal voxels with several labels" in one for one in heard)
        assert any("2 participants have scans of equal voxels with another one" in one for one in heard)


def test_a_miniature_is_fitted_where_few_folds_are_asked_for(stores: Path, tmp_path: Path) -> None:
    asked = ProbeOptions(
        model="linear", store=str(stores / "a2a"), task="amd", cross_validate=3, runs=tmp_path, replicates=20
    )
    record = probe(asked, tell=lambda _: None).record
    assert (record.asked.task, record.is_crossed) == ("a2a-amd", True)


def test_labels_of_masks_and_of_files_are_those_that_the_datasets_say(stores: Path, reference: Path) -> None:
    for name in dataset_names():
        expected = json.loads((reference / "datasets" / name / "expected.json").read_text())["volumes"]
        record = read_dataset_record(open_reader(str(stores / name)).storage)
        assert record is not None
        first = {task.target for task in record.tasks}
        told = sorted(
            [(one["participant"], *(str(one["labels"].get(column) if one["labels"].get(column) is not None else "")
                                    for column in sorted(first))) for one in expected]
        )  # fmt: skip
        found = [(one.participant, *(one.labels.get(column, "") for column in sorted(first))) for one in record.lines]
        if name == "fairvision":
            found = [one for one in found if one[0] != "Glaucoma-07002"]  # it holds no B-scans
        assert sorted(found) == told, name


def test_training_finds_the_labels_of_a_bucket_without_a_store(reference: Path, tmp_path: Path) -> None:
    bucket = str(reference / "datasets" / "a2a" / "data")
    asked = FinetuneOptions(bucket=bucket, layout="a2a", task="amd", encoder="random:tiny", runs=tmp_path)
    found = with_labels_of_dataset(asked, lambda _: None)
    assert found.labels is not None
    assert "age" in found.labels.read_text().splitlines()[0]
    assert (found.task, found.make_splits) == (str(found.labels.parent / "amd.yaml"), (70.0, 15.0, 15.0))
    with pytest.raises(UsageError, match="of the dataset a2a; give a store of gamma"):
        with_labels_of_dataset(replace(asked, task="gamma/glaucoma"), lambda _: None)
