"""Choosing the runs of one page: never mixed silently, one clear message each."""

import json
from pathlib import Path

import pytest
from simulated_run import build_run

from embeddings_store.errors import RunError, UsageError
from reports.runs import best_by_validation, read_runs, select_runs


def test_no_folder_and_no_runs_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a folder of runs"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected finished runs"):
        read_runs(tmp_path)


def test_an_unfinished_run_is_no_run(tmp_path: Path) -> None:
    build_run(tmp_path, "whole", model="linear")
    (tmp_path / "half").mkdir()
    aside = build_run(tmp_path, ".aside.tmp", model="linear")
    assert (aside / "run.json").exists()
    assert [run.id for run in read_runs(tmp_path)] == ["whole"]


@pytest.mark.parametrize("text", ["{not json", "[1, 2]", '{"id": "x"}'])
def test_an_unreadable_record_stops_with_the_name_of_its_folder(tmp_path: Path, text: str) -> None:
    folder = build_run(tmp_path, "broken", model="linear")
    (folder / "run.json").write_text(text)
    with pytest.raises(RunError, match="broken"):
        read_runs(tmp_path)


def test_different_tasks_are_refused_and_can_be_chosen(tmp_path: Path) -> None:
    build_run(tmp_path, "four", model="linear")
    build_run(tmp_path, "two", model="linear", classes=("healthy", "rest"), task="healthy-vs-rest")
    runs = read_runs(tmp_path)
    with pytest.raises(UsageError, match=r"different tasks.*four-class \(four\).*healthy-vs-rest \(two\).*--task"):
        select_runs(runs, None, None)
    assert [run.id for run in select_runs(runs, "healthy-vs-rest", None)] == ["two"]
    with pytest.raises(UsageError, match="--task nonsense: no run has it; the runs have: four-class, healthy-vs-rest"):
        select_runs(runs, "nonsense", None)


def test_different_cohorts_are_refused_and_can_be_chosen(tmp_path: Path) -> None:
    build_run(tmp_path, "old", model="linear", change={"cohort_sha256": "a" * 64})
    build_run(tmp_path, "new", model="linear", change={"cohort_sha256": "b" * 64})
    runs = read_runs(tmp_path)
    with pytest.raises(UsageError, match=r"different cohorts.*aaaa.*\(old\).*bbbb.*\(new\).*--cohort"):
        select_runs(runs, None, None)
    assert [run.id for run in select_runs(runs, None, "bb")] == ["new"]


def test_the_best_run_is_the_best_by_validation_whatever_test_says(tmp_path: Path) -> None:
    for name, val, test in (("a", 0.4, 0.9), ("b", 0.6, 0.1)):
        folder = build_run(tmp_path, name, model="linear")
        record = json.loads((folder / "run.json").read_text())
        record["metrics"]["participant"]["val"]["balanced_accuracy"] = {"value": val, "low": 0.1, "high": 0.9}
        record["metrics"]["participant"]["test"] = {"balanced_accuracy": {"value": test, "low": 0.1, "high": 0.9}}
        (folder / "run.json").write_text(json.dumps(record))
    best = best_by_validation(read_runs(tmp_path))
    assert best is not None
    assert best.id == "b"


def test_a_run_without_the_primary_metric_is_never_best(tmp_path: Path) -> None:
    folder = build_run(tmp_path, "a", model="linear")
    record = json.loads((folder / "run.json").read_text())
    record["metrics"]["participant"]["val"]["balanced_accuracy"] = {"absent": "no unit of class healthy"}
    (folder / "run.json").write_text(json.dumps(record))
    runs = read_runs(tmp_path)
    assert best_by_validation(runs) is None
    assert runs[0].estimate("participant", "val", "balanced_accuracy").reason == "no unit of class healthy"
