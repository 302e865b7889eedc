"""The tables show every run and baseline, as recorded."""

from dataclasses import replace
from pathlib import Path

from simulated_run import BASELINES, FOUR_CLASSES, build_run

from classify.run.leaves import flatten
from reports.runs import FinishedRun, read_runs
from reports.tables import METRICS, class_table, forest, results, splits_table


def test_runs_come_best_first_then_each_baseline_once(tmp_path: Path) -> None:
    build_run(tmp_path, "weak", model="mlp", strength=0.0)
    build_run(tmp_path, "strong", model="linear", strength=3.0)
    runs = read_runs(tmp_path)
    weak = next(run for run in runs if run.id == "weak")
    strong = next(run for run in runs if run.id == "strong")
    same = replace(strong.record.judged, baselines=weak.record.judged.baselines)
    strong = FinishedRun(replace(strong.run, record=replace(strong.record, judged=same)))
    rows = results([weak, strong], "participant", "val")
    assert [row.name for row in rows] == ["linear", "mlp", *BASELINES]
    assert [row.estimates[0].value for row in rows[:2]] == [
        run.record.judged.metrics["participant"]["val"]["balanced_accuracy"].value for run in (strong, weak)
    ]


def test_baselines_that_differ_between_runs_are_told_apart(tmp_path: Path) -> None:
    build_run(tmp_path, "one", model="mlp", seed=1)
    build_run(tmp_path, "two", model="linear", seed=2)
    names = [row.name for row in results(read_runs(tmp_path), "participant", "val")]
    assert {"age · one", "age · two"} <= set(names)


def test_runs_of_the_same_head_are_named_by_id(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_run(tmp_path, name, model="linear")
    names = {row.name for row in results(read_runs(tmp_path), "eye", "val")}
    assert names == {"linear · one", "linear · two"}


def test_the_forest_has_a_panel_for_the_difference_only_where_there_is_one(tmp_path: Path) -> None:
    build_run(tmp_path, "one", model="linear")
    runs = read_runs(tmp_path)
    panels = forest(results(runs, "participant", "val"), METRICS, 4, "age+site")
    assert [panel.line for panel in panels] == [0.25, 0.5, 0.0, 0.0]
    assert panels[-1].estimates[1:] == (None,) * len(BASELINES)
    assert len(forest(results(runs, "eye", "val"), METRICS, 4, "age+site")) == 3


def test_splits_and_classes_are_those_of_the_record(tmp_path: Path) -> None:
    build_run(tmp_path, "one", model="linear")
    run = read_runs(tmp_path)[0]
    for row in splits_table(run):
        size = run.record.cohort.splits[row.split]
        assert (row.participants, row.eyes, row.volumes) == (size["participants"], size["eyes"], size["volumes"])
        assert sum(row.per_class) == row.participants
    kinds, lines = class_table(run, "val")
    assert kinds == ["auroc", "recall"]
    assert [name for name, _ in lines] == list(FOUR_CLASSES)
    assert lines[0][1][1].reason == "too few participants"


def test_a_record_is_flattened_to_its_leaves() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": "x"}) == [("a.b", "1"), ("a.c", "[1, 2]"), ("d", "x")]
    assert flatten({"history": [0.123456] * 50}) == [("history", "50 entries, see run.json")]
