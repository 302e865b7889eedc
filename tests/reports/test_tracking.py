"""Mirroring is idempotent, complete and quiet, for MLflow and for the fake."""

import json
import os
import shutil
import socket
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import build_run
from simulated_store import build_store

from classify.fitting.model import load_model
from classify.fitting.source import source_of_run
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.folder import load_run
from classify.run.record import read_record
from embeddings_store.errors import RunError, UsageError
from embeddings_store.snapshot import read_features_source
from finetune.tracking.mlflow_client import mlflow_name
from finetune.tracking.mlflow_file import drop_artifacts
from reports.mlflow_tracker import MlflowTracker
from reports.runs import read_runs
from reports.tracking import MirroredRun, Tracker, describe, key_of, mirror_runs

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)


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
    return MirroredRun(key, key, 1000, 3000, {"a<b>": "1"}, {"val/age+site": 0.5}, {"tag": "x"}, (artifact,))


def test_a_server_that_is_not_there_is_one_line_after_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")  # what the user set stays
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(RunError, match=r"MLflow: expected a tracking store .*Connection refused") as refused:
            MlflowTracker(f"http://127.0.0.1:{taken.getsockname()[1]}", "octprobe")
    assert "\n" not in str(refused.value)
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("7", "2")


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
    measured = record.judged.metrics["participant"]["val"]["balanced_accuracy"]
    name = "participant/val/balanced_accuracy"
    assert [row.data.metrics[name + part] for part in ("", "/low", "/high")] == [measured.value, *measured.ends]
    assert (
        row.data.metrics["baseline/age_site/val/macro_auroc"]
        == record.judged.baselines["age+site"]["val"]["macro_auroc"].value
    )
    assert "participant/val/recall/healthy" not in row.data.metrics  # absent, never a number
    assert row.data.params["parameters.num_leaves"] == "6"
    assert row.data.tags["octprobe.phantom"] == "true"
    assert row.info.status == "FINISHED"
    artifacts = Path(row.info.artifact_uri.removeprefix("file://"))
    assert read_record(artifacts) == record  # which names no test people
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


def test_half_a_copy_leaves_no_file_trial_or_model(
    tmp_path: Path, mlflow_tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, client = copy_named("one", tmp_path), mlflow_tracker._client

    def interrupted(run_id: str, *_: str) -> None:
        client.create_registered_model("head")
        client.create_model_version("head", f"runs:/{run_id}/model", run_id=run_id)
        raise KeyboardInterrupt

    with monkeypatch.context() as late, pytest.raises(KeyboardInterrupt):
        late.setattr(client, "set_tag", interrupted)
        mlflow_tracker.keep(copy)
    assert len(client.search_model_versions("name = 'head'")) == 1
    mlflow_tracker.keep(copy)
    (whole,) = rows_of(tmp_path)
    assert [path.name for path in (tmp_path / "mlartifacts").iterdir()] == [whole.info.run_id]
    assert client.search_model_versions("name = 'head'") == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for location in (elsewhere.as_uri(), "mlflow-artifacts:/1/one/artifacts", "s3://bucket/one/artifacts"):
        drop_artifacts(location, "one")
    assert elsewhere.is_dir()


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
    before = key_of(read_runs(tmp_path)[0])
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("log_loss", "brier", 1))
    assert key_of(read_runs(tmp_path)[0]) != before


def test_trials_are_nested_and_the_model_is_registered_without_pickle(
    tmp_path: Path, mlflow_tracker: MlflowTracker, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    store, participants = build_store(tmp_path)
    options = ProbeOptions(
        store="store", model="lgbm", participants=participants, trials=3, replicates=10, runs=tmp_path / "runs"
    )
    done = probe(options, now=NOW, read=lambda *_: read_features_source(str(store)), tell=lambda line: None)
    capfd.readouterr()
    mirror_runs(tmp_path / "runs", mlflow_tracker)
    assert capfd.readouterr() == ("", "")

    rows = {row.info.run_name: row for row in rows_of(tmp_path)}
    parent = rows[done.record.id]
    nested = [row for row in rows.values() if row.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(row.info.run_name for row in nested) == ["trial 0", "trial 1", "trial 2"]
    history = done.record.fitted.search["history"]
    assert [rows[f"trial {n}"].data.metrics["value"] for n in range(3)] == [tried["value"] for tried in history]
    assert "parameters.num_leaves" in rows["trial 1"].data.params
    (used,) = parent.inputs.dataset_inputs
    assert done.record.cohort.cohort_sha256.startswith(used.dataset.digest)

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (registered,) = client.search_model_versions("name = 'octprobe-four-class-lgbm'")
    assert registered.run_id == parent.info.run_id
    folder = Path(parent.info.artifact_uri.removeprefix("file://")) / "model"
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mlflow.pyfunc.load_model(str(folder))
    run = load_run(done.folder)
    raw = source_of_run(run, read_features_source(str(store))).table(load_model(run).features)
    assert len(loaded.metadata.signature.inputs.inputs) == raw.x.shape[1] + 1
    rows_in = pd.DataFrame(raw.x, columns=[f"feature_{place:04d}" for place in range(raw.x.shape[1])])
    said = loaded.predict(rows_in.assign(protocol=raw.protocol))
    expected = load_model(run).predict(raw, classes=4, split="all")["volume"].probability
    np.testing.assert_allclose(said.to_numpy(), expected, atol=1e-6)


def test_an_interval_that_must_not_be_shown_is_not_mirrored(tmp_path: Path) -> None:
    build_run(tmp_path, "one", model="linear")
    path = tmp_path / "one" / "run.json"
    record = json.loads(path.read_text())
    record["metrics"]["participant"]["val"]["macro_auroc"] = {
        "value": 1.0, "low": 1.0, "high": 1.0, "too_few": "2 participants of healthy; intervals need 10"
    }  # fmt: skip
    path.write_text(json.dumps(record))
    metrics = dict(describe(read_runs(tmp_path)[0], tmp_path / "aside").metrics)
    assert metrics["participant/val/macro_auroc"] == 1.0
    assert not {"participant/val/macro_auroc/low", "participant/val/macro_auroc/high"} & set(metrics)
    assert "participant/val/accuracy/low" in metrics
