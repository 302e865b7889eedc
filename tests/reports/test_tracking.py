"""Mirroring is idempotent, complete and quiet, for MLflow and for the fake."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from simulated_run import build_run

from embeddings_store.errors import RunError, UsageError
from reports.mlflow_tracker import MlflowTracker, mlflow_name
from reports.runs import read_runs
from reports.tracking import MirroredRun, Tracker, describe, mirror_runs


class RememberedRuns:
    """A tracker in memory."""

    def __init__(self) -> None:
        self.runs: dict[str, MirroredRun] = {}

    def has(self, key: str) -> bool:
        return key in self.runs

    def keep(self, run: MirroredRun) -> None:
        self.runs[run.key] = run


def copy_named(key: str, tmp_path: Path) -> MirroredRun:
    artifact = tmp_path / "run.json"
    artifact.write_text("{}")
    return MirroredRun(key, key, 0, {"a<b>": "1"}, {"val/age+site": 0.5}, {"tag": "x"}, (artifact,))


class TrackerContract:
    """What every tracker keeps to; a subclass gives the fixture ``tracker``."""

    def test_it_has_what_it_kept_and_nothing_else(self, tracker: Tracker, tmp_path: Path) -> None:
        assert not tracker.has("one")
        tracker.keep(copy_named("one", tmp_path))
        assert tracker.has("one")
        assert not tracker.has("two")

    def test_mirroring_twice_doubles_nothing(self, tracker: Tracker, tmp_path: Path) -> None:
        build_run(tmp_path / "runs", "a", model="linear")
        first = mirror_runs(tmp_path / "runs", tracker)
        build_run(tmp_path / "runs", "b", model="linear")
        second = mirror_runs(tmp_path / "runs", tracker)
        assert (first.new, first.kept) == (["a"], [])
        assert (second.new, second.kept) == (["b"], ["a"])


class TestRememberedRuns(TrackerContract):
    @pytest.fixture
    def tracker(self) -> Tracker:
        return RememberedRuns()


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow's migrations take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowTracker(f"sqlite:///{folder}/mlflow.db", "unused")
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_tracker(tmp_path: Path, empty_database: Path) -> MlflowTracker:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "study")


class TestMlflowTracker(TrackerContract):
    @pytest.fixture
    def tracker(self, mlflow_tracker: MlflowTracker) -> Tracker:
        return mlflow_tracker


def rows_of(tmp_path: Path) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_mirrored_run_holds_parameters_metrics_tags_and_the_record(
    tmp_path: Path, mlflow_tracker: MlflowTracker
) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "study.html").write_text("<p>page</p>")
    mirror_runs(tmp_path / "runs", mlflow_tracker, page_folder=tmp_path / "page")
    (row,) = rows_of(tmp_path)
    record = read_runs(tmp_path / "runs")[0].record
    measured = record["metrics"]["participant"]["val"]["balanced_accuracy"]
    name = "participant/val/balanced_accuracy"
    assert [row.data.metrics[name + part] for part in ("", "/low", "/high")] == list(measured.values())
    assert (
        row.data.metrics["baseline/age_site/val/macro_auroc"]
        == record["baselines"]["age+site"]["val"]["macro_auroc"]["value"]
    )
    assert "participant/val/recall/healthy" not in row.data.metrics  # absent, never a number
    assert row.data.params["parameters.num_leaves"] == "6"
    assert row.data.tags["octprobe.phantom"] == "true"
    assert row.info.status == "FINISHED"
    artifacts = Path(row.info.artifact_uri.removeprefix("file://"))
    assert json.loads((artifacts / "run.json").read_text()) == record
    assert (artifacts / "study.html").exists()
    assert artifacts.is_relative_to(tmp_path)


def test_half_a_copy_is_replaced(tmp_path: Path, mlflow_tracker: MlflowTracker) -> None:
    tracker = mlflow_tracker
    copy = copy_named("one", tmp_path)
    copy.artifacts[0].unlink()
    with pytest.raises(RunError):
        tracker.keep(copy)
    assert not tracker.has("one")
    copy.artifacts[0].write_text("{}")
    tracker.keep(copy)
    assert tracker.has("one")
    assert len(rows_of(tmp_path)) == 1


def test_mlflow_reaches_no_network_and_says_nothing(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "study").keep(copy_named("one", tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_tracking_store_that_cannot_be_used_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(RunError, match="MLflow: expected a tracking store"):
        MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "study")


def test_no_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--runs"):
        mirror_runs(tmp_path / "none", RememberedRuns())


def test_names_are_made_of_letters_that_mlflow_allows() -> None:
    assert mlflow_name("recall/<script>") == "recall/_script_"


def test_the_key_changes_with_the_record(tmp_path: Path) -> None:
    folder = build_run(tmp_path, "a", model="linear")
    before = describe(read_runs(tmp_path)[0]).key
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("log_loss", "brier", 1))
    assert describe(read_runs(tmp_path)[0]).key != before
