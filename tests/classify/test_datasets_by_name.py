"""Tasks of public datasets by name, from the labels that a store keeps: splits, people, scans that contradict."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import CHANNELS, space

from classify.cohort.stored_labels import LEFT_OUT
from classify.compare import compare
from classify.errors import CohortError, LeakError
from classify.evaluate import evaluate
from classify.judge_baselines import judge_baselines
from classify.learning_curve import learning_curve
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.folder import load_run
from classify.run_options import BaselineOptions, EvaluateOptions
from classify.study_options import CompareOptions, CurveOptions
from embeddings_store.dataset_record import (
    PATH,
    DatasetRecord,
    DatasetTask,
    LabelLine,
    SplitScheme,
    put_dataset_record,
    read_dataset_record,
)
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.schema import Eye, Intensity, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from embeddings_store.writer import open_writer

OFFICIAL = SplitScheme({"Training": "train", "Validation": "val", "Test": "test"})
TASK = DatasetTask("amd", "class", "binary", "scan", ("normal", "amd"), {"normal": ("N",), "amd": ("A",)}, "amd-normal")
DISEASE = DatasetTask("stage", "stage", "ordered", "participant", ("0", "1", "2"))


def scan(number: int, person: str, label: str, split: str, stage: str = "") -> LabelLine:
    labels = {"class": label, "stage": stage, "age": str(50 + number % 30)}
    return LabelLine(f"{split}/{label} x/{number:03d}", person, "", split, "", labels)


def cohort(people: int = 48, shared: int = 0) -> list[LabelLine]:
    """Deal people to the published split; the first ``shared`` of train have a scan in test, too."""
    lines = []
    for number in range(people):
        split = ("Training", "Training", "Validation", "Test")[number // 2 % 4]
        lines.append(scan(number, f"P{number:03d}", "NA"[number % 2], split, str(number % 3)))
        if number // 2 % 4 == 0 and number < 8 * shared:
            lines.append(scan(500 + number, f"P{number:03d}", "NA"[number % 2], "Test", str(number % 3)))
    return lines


def make_store(
    url: Path, lines: Sequence[LabelLine], scheme: SplitScheme = OFFICIAL, *, name: str = "north_eye",
    same: Sequence[tuple[int, int]] = (), md5: bool = True, seed: int = 0,
) -> str:  # fmt: skip
    """Write a store of a dataset. same: pairs of lines with equal voxels; md5: their objects are equal, too."""
    rng = np.random.default_rng(seed)
    refs = [
        VolumeRef(one.file, 10, "", volume_id(one.file), ParticipantId(one.participant), Eye.UNKNOWN, "", "")
        for one in lines
    ]
    writer = open_writer(str(url), space(), capacity=1000, worker={"device": "test"})
    writer.add_volumes(refs)
    source = {second: first for first, second in same}
    vectors = rng.normal(0, 1, (len(lines), 2, 2, CHANNELS)).astype(np.float32)
    place = {ref.key: number for number, ref in enumerate(refs)}
    for line in writer.missing_rows():
        number = place[line.ref.key]
        own = source.get(number, number)
        vector = vectors[own] + 2.0 * (lines[own].labels["class"] == "A")
        told = Intensity(float(own) + 1, 2.0, 1.0, 2.0, 3.0)
        facts = RowFacts(8, 16, 16, None, Eye.UNKNOWN, Note.NO_SPACING, intensity=told)
        digest = (own if md5 else number).to_bytes(16, "big")
        writer.write_row(line.row, vector.astype(np.float32), {}, facts, digest, 10, None)
    record = DatasetRecord(
        name, "North Eye", "North E., 2026", "CC BY 4.0", (TASK, DISEASE), scheme, ("class", "stage", "age"),
        tuple(sorted(lines, key=lambda one: one.file)), ("ids are samples",),
    )  # fmt: skip
    put_dataset_record(writer.storage, record)
    return str(url)


def asked(store: str, runs: Path, task: str = "north_eye/amd", **more: object) -> ProbeOptions:
    return ProbeOptions(model="linear", store=store, task=task, runs=runs, replicates=50, **more)  # type: ignore[arg-type]


def left_out(runs: Path) -> list[dict[str, str]]:
    (path,) = runs.glob(f"labels/*/{LEFT_OUT}")
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_sound_published_split_is_taken_by_every_verb(tmp_path: Path) -> None:
    store, runs, heard = make_store(tmp_path / "s", cohort()), tmp_path / "runs", list[str]()
    done = probe(asked(store, runs), tell=heard.append)
    record = load_run(done.folder).record
    assert (record.asked.task, record.asked.classes) == ("north-eye-amd", ["normal", "amd"])
    assert {name: size["participants"] for name, size in record.cohort.splits.items()} == {
        "train": 24,
        "val": 12,
        "test": 12,
    }
    assert "ids are samples" in record.cohort.table_notes
    assert "ids are samples" in heard
    origin = record.cohort.splits_from
    assert (origin["dataset"], origin["official"], origin["citation"]) == ("north_eye", True, "North E., 2026")
    assert evaluate(EvaluateOptions(run=done.folder, store=store, split="test", runs=runs, replicates=50)).looks == 1
    found = judge_baselines(BaselineOptions(store=store, task="amd", runs=runs, replicates=50))
    assert found["task"] == "north-eye-amd"
    assert any("age" in name for name in found["baselines"])
    curve = CurveOptions(model="linear", store=store, task="amd", runs=runs, fractions=(0.5, 1.0), repeats=1)
    assert learning_curve(curve).record.task == "north-eye-amd"
    table = CompareOptions(store=(f"a={store}",), tasks=("amd", "north_eye/stage"), runs=runs, replicates=50)
    both = compare(table)
    assert set(both.record.tasks) == {"north-eye-amd", "north-eye-stage"}
    assert all(one.reused for one in compare(table).record.runs)
    assert len(list((runs / "labels").iterdir())) == 1


def test_a_split_that_shares_people_is_made_anew_unless_it_is_asked_for(tmp_path: Path) -> None:
    lines, runs, heard = cohort(shared=3), tmp_path / "runs", list[str]()
    in_test = [one.participant for one in lines].index("P006")
    store = make_store(tmp_path / "s", lines, same=[(0, in_test)])
    record = probe(asked(store, runs), tell=heard.append).record
    said = next(one for one in heard if "lie in several parts" in one)
    assert "6 people lie in several parts of the published split (6 in train and test; 0 in train and val" in said
    assert said in record.cohort.table_notes
    splits = [size["participants"] for size in record.cohort.splits.values()]
    assert sum(splits) == 47, "two people with an equal scan are one"
    assert record.cohort.splits_from["shares"] == [70.0, 15.0, 15.0]
    other = tmp_path / "other"  # these runs have locked other people as test
    record = probe(asked(store, other, official_splits=True), tell=heard.append).record
    assert record.cohort.splits_from["official"] is True
    (warning,) = (one for one in record.cohort.table_notes if one.startswith("WARNING"))
    assert "a number on val or test is too good" in warning
    assert warning in heard
    assert record.cohort.splits["test"]["volumes"] == 12 + 6
    assert [step["volumes"] for step in record.cohort.flow if step["step"] == "shared scans"] == [2]
    with pytest.raises(UsageError, match="--official-splits: cannot be combined with --make-splits"):
        probe(asked(store, runs, official_splits=True, make_splits=(70.0, 15.0, 15.0)))


@pytest.mark.parametrize("md5", [True, False])
def test_scans_of_equal_voxels_are_one_person_and_with_two_labels_left_out(tmp_path: Path, md5: bool) -> None:
    lines, runs = cohort(), tmp_path / "runs"
    store = make_store(tmp_path / "s", lines, SplitScheme(), same=[(0, 8), (2, 5), (0, 10)], md5=md5)
    record = probe(asked(store, runs), tell=lambda _: None).record
    assert sum(size["participants"] for size in record.cohort.splits.values()) == 48 - 2 - 2
    flow = {step["step"]: step["volumes"] for step in record.cohort.flow}
    assert (flow["no label"], flow["copy"]) == (2, 2)
    assert {(one["file"], one["reason"]) for one in left_out(runs) if one["task"] == "amd"} == {
        (lines[place].file, "equal voxels with several labels") for place in (2, 5)
    }
    other = make_store(tmp_path / "t", lines, SplitScheme(), same=[(0, 8), (2, 5), (0, 10)], md5=md5, seed=1)
    again = probe(asked(other, runs), tell=lambda _: None).record
    assert again.cohort.splits_from["folder"] == record.cohort.splits_from["folder"]
    assert again.cohort.splits == record.cohort.splits, "stores of two encoders share labels and splits"
    both = CompareOptions(store=(f"a={store}", f"b={other}"), tasks=("amd",), runs=runs, replicates=50)
    assert [one.reused for one in compare(both).record.runs] == [True, True]


def test_own_scans_under_two_participants_are_still_refused(tmp_path: Path) -> None:
    lines = cohort()
    store = make_store(tmp_path / "s", lines, same=[(0, 8)])
    (tmp_path / "s" / PATH).unlink()
    own = tmp_path / "own.csv"
    own.write_text("file,class,split\n" + "".join(f"{one.file},{one.labels['class']},{one.split}\n" for one in lines))
    mine = ProbeOptions(
        model="linear", store=store, labels=own, target="class", positive="A", runs=tmp_path / "r", replicates=50
    )
    with pytest.raises(LeakError, match="the same scan stands under several participants"):
        probe(mine)


def test_few_people_are_cross_validated_and_other_labels_may_be_asked_for(tmp_path: Path) -> None:
    store, heard = make_store(tmp_path / "s", cohort(24), SplitScheme(otherwise="cross")), list[str]()
    record = probe(asked(store, tmp_path / "runs"), tell=heard.append).record
    assert record.is_crossed
    assert any("5 folds" in one for one in heard)
    with pytest.raises(CohortError, match="expected to know who is train, val and test"):
        judge_baselines(BaselineOptions(store=store, task="amd", runs=tmp_path / "runs"))
    mine = replace(asked(store, tmp_path / "runs"), task=None, target="age", kind="number", level="participant")
    assert probe(mine).record.asked.task == "age"


def test_people_of_another_place_are_judged_where_a_task_means_the_same(tmp_path: Path) -> None:
    here, runs = make_store(tmp_path / "a", cohort()), tmp_path / "runs"
    lines = [replace(one, file=f"b/{one.file}", participant=f"Q{one.participant}") for one in cohort(20)]
    there = make_store(tmp_path / "b", lines, SplitScheme(), name="south_eye", seed=3)
    run = probe(asked(here, runs)).folder
    done = evaluate(EvaluateOptions(run=run, store=there, external=True, runs=runs, replicates=50, recalibrate_on=0))
    (entry,) = done.record.evaluations
    assert entry["place"]["flow"][-1]["participants"] == 20


def test_what_cannot_be_is_one_clear_message(tmp_path: Path) -> None:
    store, runs = make_store(tmp_path / "s", cohort(), SplitScheme()), tmp_path / "runs"
    for more, error, said in (
        ({"task": "north_eye/amdd"}, UsageError, "did you mean north_eye/amd"),
        ({"task": "amdd"}, UsageError, "has the tasks amd, stage"),
        ({"task": "a2a/amd"}, UsageError, "of the dataset north_eye; give a store of a2a"),
        ({"task": None}, UsageError, r"expected a --task of its dataset \(north_eye/amd, north_eye/stage\)"),
        ({"labels": tmp_path / "x.csv"}, UsageError, "finds its labels in the store; leave --labels out"),
        ({"official_splits": True}, UsageError, "no published split of train, val and test"),
        ({"task": "four-class", "official_splits": True}, UsageError, "goes with a --task of a public dataset"),
        ({"task": "four-class"}, UsageError, "expected one of them, got neither"),
    ):
        with pytest.raises(error, match=said):
            probe(replace(asked(store, runs), **more))
    other = make_store(tmp_path / "t", cohort(), name="south_eye")
    with pytest.raises(UsageError, match="give stores of one dataset"):
        probe(replace(asked(store, runs), store=(f"a={store}", f"b={other}")))
    (tmp_path / "s" / PATH).unlink()
    with pytest.raises(UsageError, match="names no dataset, so it brings no tasks"):
        probe(asked(store, runs))
    with pytest.raises(UsageError, match="--task: expected one of four-class"):
        probe(asked(store, runs, "amd"))


def test_the_record_comes_back_as_it_was_and_damage_is_seen(tmp_path: Path) -> None:
    storage = open_reader(make_store(tmp_path / "s", cohort())).storage
    record = read_dataset_record(storage)
    assert record is not None
    assert (record.tasks, record.splits, len(record.lines)) == ((TASK, DISEASE), OFFICIAL, 48)
    put_dataset_record(storage, record)
    assert read_dataset_record(storage) == record
    path = tmp_path / "s" / PATH
    path.write_text(path.read_text().replace("P004", "P005", 1))
    with pytest.raises(StoreError, match=r"dataset\.json: its checksum is another; delete it"):
        read_dataset_record(storage)
    told = json.loads(path.read_text())
    path.write_text(json.dumps({"name": told["name"]}))
    with pytest.raises(StoreError, match="other fields than expected"):
        read_dataset_record(storage)
