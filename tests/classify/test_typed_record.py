"""Records on disk: what an older version wrote is read, what is damaged is refused in one line, and order is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classify.comparing.board import ComparisonRecord
from classify.comparing.target_folder import TargetsRecord
from classify.errors import RunFolderError
from classify.learning_curve import CurveRecord
from classify.run.estimate import Estimate
from classify.run.typed_record import as_json, read_typed
from reports.benchmark.record import BenchmarkRecord
from reports.validity import comparison_tables

MEASURED = {"value": 0.75, "low": 0.5, "high": 0.875}
LINE = {
    "name": "oct/linear", "kind": "model", "run": "r", "store": "oct", "model": "linear", "space": "s", "note": "",
    "participants": 3, "seconds": None, "metrics": {"balanced_accuracy": MEASURED, "macro_auroc": MEASURED},
    "difference_to_best": None, "difference_to_random_twin": None,
}  # fmt: skip
BOARD = {
    "split": "val", "ranked_by": "balanced_accuracy", "participants": 3, "per_class": {"no": 1, "yes": 2},
    "participants_per_class": {"no": 1, "yes": 1}, "replicates": 50, "seed": 0, "best": "oct/linear",
    "differences_hold": "for all", "best_of_n": {"compared": 1, "corrected": {}}, "lines": [LINE],
    "classes": ["no", "yes"], "cohorts": [{"cohort_sha256": "c", "val": {"participants": 3}, "names": ["oct/linear"]}],
    "baselines_missing": {"oct/linear": "age: no age"}, "unlike_train": [], "paired_by_number": [],
}  # fmt: skip
RECORD = {
    "id": "one", "created": "2026-11-22", "command": [], "stores": ["oct"], "random_twin": None,
    "encoders": {"oct": None}, "encoding_costs": {"oct": None}, "phantom": True,
    "runs": [{"name": "oct/linear", "run": "r", "reused": False}],
    "absent": [{"name": "oct/knn", "task": "t", "reason": "why"}], "tasks": {"t": BOARD},
}  # fmt: skip
LATER = ("encoders", "encoding_costs")
LATER_OF_BOARD = (
    "participants_per_class", "differences_hold", "baselines_missing", "unlike_train", "paired_by_number",
)  # fmt: skip


def saved(folder: Path, record: dict[str, Any]) -> Path:
    """Write a comparison below the runs of a folder."""
    path = folder / "comparisons" / "one" / "comparison.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return path


def test_a_comparison_is_written_as_it_was_read_field_by_field_in_order(tmp_path: Path) -> None:
    found = read_typed(ComparisonRecord, saved(tmp_path, RECORD))
    assert json.dumps(as_json(found)) == json.dumps(RECORD)
    assert found.tasks["t"].lines[0].model == "linear"
    assert found.tasks["t"].lines[0].metrics["macro_auroc"] == Estimate(0.75, 0.5, 0.875)


def test_a_field_that_is_left_out_is_not_null(tmp_path: Path) -> None:
    board = {name: value for name, value in BOARD.items() if name != "participants_per_class"}
    found = read_typed(ComparisonRecord, saved(tmp_path, RECORD | {"tasks": {"t": board}}))
    assert "participants_per_class" not in as_json(found)["tasks"]["t"]
    assert as_json(found)["random_twin"] is None


def test_a_comparison_of_an_older_version_is_read(tmp_path: Path) -> None:
    board = {name: value for name, value in BOARD.items() if name not in LATER_OF_BOARD}
    old = {name: value for name, value in RECORD.items() if name not in LATER} | {"tasks": {"t": board}}
    saved(tmp_path, old)
    leaderboard, encoders = comparison_tables(tmp_path, "t")
    assert leaderboard.rows[0][0] == "oct/linear"
    assert encoders.rows == []


def test_a_learning_curve_of_an_older_version_is_read(tmp_path: Path) -> None:
    old = {
        "id": "one", "created": "2026-11-22", "command": [], "model": "linear", "task": "t", "classes": ["no", "yes"],
        "space": "s", "cohort_sha256": "c", "phantom": True, "parameters": {"C": 1.0}, "features": {"layer": "last"},
        "aggregation": "mean", "search": None, "split": "val", "val": {"participants": 3}, "seed": 0, "repeats": 2,
        "replicates": 50, "said": [], "seconds": {"fit": 1.5},
        "points": [
            {"fraction": 0.5, "participants": 2, "absent": "nobody is yes"},
            {"fraction": 1.0, "macro_auroc": MEASURED | {"spread": None}},
        ],
    }  # fmt: skip
    found = read_typed(CurveRecord, saved(tmp_path, old))
    assert as_json(found) == old | {"resplit": None}
    assert found.points[1]["macro_auroc"] == Estimate(0.75, 0.5, 0.875, more={"spread": None})


def _no_lines(record: dict[str, Any]) -> None:
    del record["tasks"]["t"]["lines"]


def _no_tasks(record: dict[str, Any]) -> None:
    del record["tasks"]


def _words(record: dict[str, Any]) -> None:
    record["tasks"]["t"]["lines"][0]["seconds"] = "long"


@pytest.mark.parametrize("kind", [BenchmarkRecord, ComparisonRecord, CurveRecord, TargetsRecord])
def test_a_record_without_its_fields_is_one_line(tmp_path: Path, kind: type[Any]) -> None:
    with pytest.raises(RunFolderError, match=r"^one/comparison.json: the field 'created' is missing; was it written"):
        read_typed(kind, saved(tmp_path, {"id": "one"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_tasks, "the field 'tasks' is missing"),
        (_no_lines, "tasks.t.lines: Field required"),
        (_words, "tasks.t.lines.0.seconds: Input should be a valid number"),
    ],
)
def test_a_damaged_comparison_is_one_line(tmp_path: Path, damage: Callable[[dict[str, Any]], None], said: str) -> None:
    record = json.loads(json.dumps(RECORD))
    damage(record)
    saved(tmp_path, record)
    with pytest.raises(RunFolderError) as raised:
        comparison_tables(tmp_path, "t")
    shown = str(raised.value)
    assert shown.startswith(f"one/comparison.json: {said}")
    assert shown.endswith("; was it written by another version of octprobe?")
    assert "\n" not in shown
