"""The W&B mirror, in W&B's own offline mode: what its file holds is read back, and nobody is called."""

import json
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from simulated_run import build_run
from test_tracking import TrackerContract, copy_named

from embeddings_store.errors import RunError, UsageError
from reports.runs import read_runs
from reports.trackers import open_tracker
from reports.tracking import Tracker, describe, mirror_runs
from reports.wandb_tracker import WHOLE, WandbTracker

pytest.importorskip("wandb", reason="W&B is not installed (extra wandb)")

BLOCK, HEAD = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


@pytest.fixture(autouse=True)
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """Stand where W&B's server would, and see that nobody calls; keep out of the user's own folders."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "local-" + "5ec4e7" * 7)
        monkeypatch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            monkeypatch.setenv(name, str(tmp_path / "wandb-own"))
        yield server
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return WandbTracker(tmp_path / "copies", "study")


class TestWandbTracker(TrackerContract):
    @pytest.fixture
    def tracker(self, tmp_path: Path) -> Tracker:
        return WandbTracker(tmp_path / "copies", "study")


def records_of(folder: Path) -> list[Any]:
    """Read the one W&B file below a folder: a log of records in blocks, as LevelDB writes them."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    raw, place, part, found = path.read_bytes(), HEAD, b"", []
    while place + HEAD <= len(raw):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", raw[place : place + HEAD])
        piece = raw[place + HEAD : place + HEAD + size]
        part = piece if kind in (FULL, FIRST) else part + piece
        place += HEAD + size
        if kind in (FULL, LAST):
            found.append(Record.FromString(part))
    return found


def told(records: list[Any], kind: str) -> dict[str, Any]:
    """Put the updates of all records of a kind ("summary", "config") together; a run brings its first config along."""
    parts = [part for record in records for part in (getattr(record.run, kind), getattr(record, kind))]
    return {item.key: json.loads(item.value_json) for part in parts for item in part.update if item.key}


def table(folder: Path, name: str) -> dict[str, Any]:
    (path,) = folder.glob(f"wandb/offline-run-*/files/media/table/{name}_*.table.json")
    return dict(json.loads(path.read_text()))


def test_the_offline_file_holds_parameters_numbers_tables_and_files(tmp_path: Path, tracker: Tracker) -> None:
    tried = [{"value": 0.5, "parameters": {"depth": 2}, "state": "complete"}, {"parameters": {"depth": 3}}]
    search = {"trials": 2, "best": {"depth": 2}, "metric": "log_loss", "history": tried}
    build_run(tmp_path / "runs", "a", model="linear", change={"search": search})
    report = tmp_path / "report"
    report.mkdir()
    for name in ("study.html", "model-card.html", "case-1001.html"):
        (report / name).write_text("<p>page</p>")
    mirror_runs(tmp_path / "runs", tracker, page_folder=report)
    run = read_runs(tmp_path / "runs")[0]
    copy, records = describe(run, tmp_path / "aside"), records_of(tmp_path / "copies")
    config, summary = told(records, "config"), told(records, "summary")
    assert copy.parameters.items() <= config.items()
    assert copy.tags.items() <= config.items()
    assert config["data"]["digest"] == str(run.record.cohort.cohort_sha256)[:36]
    assert {name: summary[name] for name in copy.metrics} == dict(copy.metrics)
    measured = run.record.judged.metrics["participant"]["val"]["balanced_accuracy"]
    lines = {line[0]: line[1:] for line in table(tmp_path / "copies", "metrics")["data"]}
    assert lines["participant/val/balanced_accuracy"] == [measured.value, *measured.ends]
    assert "participant/val/recall/healthy" not in lines  # absent, never a number
    trials = table(tmp_path / "copies", "trials")
    assert trials["columns"] == ["trial", "state", "value", "parameters.depth"]
    assert trials["data"] == [[0, "complete", 0.5, "2"], [1, "complete", None, "3"]]
    kept = {item.path for record in records for item in record.artifact.manifest.contents}
    assert {"run.json", "study.html", "model-card.html"} <= kept
    assert "case-1001.html" not in kept  # a page of a person goes nowhere


def test_neither_the_key_nor_the_machine_is_told(tmp_path: Path, tracker: Tracker) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    mirror_runs(tmp_path / "runs", tracker)
    written = b"".join(path.read_bytes() for path in (tmp_path / "copies").rglob("*") if path.is_file())
    assert b"5ec4e7" * 7 not in written
    (run,) = [record.run for record in records_of(tmp_path / "copies") if record.WhichOneof("record_type") == "run"]
    assert run.host == "not sent"
    assert not any(record.HasField("environment") for record in records_of(tmp_path / "copies"))
    assert not (tmp_path / "copies" / "requirements.txt").exists()


def test_no_participant_is_sent(tmp_path: Path, tracker: Tracker) -> None:
    people = {"test_people": {"PLANTED-1": ["d1"]}, "near_copies_allowed": {"people": ["PLANTED-2"], "pairs": []}}
    build_run(tmp_path / "runs", "a", model="linear", change=people)
    for more in (False, True):
        mirror_runs(tmp_path / "runs", tracker, with_participants=more)
        places = (tmp_path / "copies", tmp_path / "wandb-own")
        sent = b"".join(path.read_bytes() for place in places for path in place.rglob("*") if path.is_file())
        assert (b"PLANTED-1" in sent, b"PLANTED-2" in sent) == (more, more)


def test_a_copy_is_on_the_disk_when_it_counts_as_whole(tmp_path: Path) -> None:
    """W&B writes behind its caller's back: often enough, a finished run's file was still empty."""
    for number in range(6):
        folder = tmp_path / str(number)
        WandbTracker(folder, "study").keep(copy_named("one", tmp_path))
        assert "exit" in [record.WhichOneof("record_type") for record in records_of(folder)]


def test_half_a_copy_is_made_again(tmp_path: Path, tracker: Tracker) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    mirror_runs(tmp_path / "runs", tracker)
    (marker,) = (tmp_path / "copies").rglob(WHOLE)
    marker.unlink()
    (marker.parent / "left-over").touch()
    assert mirror_runs(tmp_path / "runs", tracker).new == ["a"]
    assert not list((tmp_path / "copies").rglob("left-over"))
    assert len(list((tmp_path / "copies").rglob(WHOLE))) == 1


def test_the_command_mirrors_once(tmp_path: Path, command: Command) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    asked = (
        "reports",
        "track",
        "--to",
        "wandb",
        "--runs",
        tmp_path / "runs",
        "--tracking-uri",
        tmp_path / "w",
        "--json",
    )
    assert command(*asked).json["mirrored"] == ["a"]
    assert command(*asked).json["already_there"] == ["a"]


def test_another_tracker_and_a_missing_package_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="expected mlflow or wandb, got 'paper'"), open_tracker("paper", "", "study"):
        pass
    monkeypatch.setitem(sys.modules, "wandb", None)
    missing = pytest.raises(UsageError, match=r"pip install 'octprobe\[wandb\]'")
    with missing, open_tracker("wandb", str(tmp_path), "study"):
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    (tmp_path / "copies").write_text("a file")
    with pytest.raises(RunError, match="W&B: expected a folder"):
        mirror_runs(tmp_path / "runs", WandbTracker(tmp_path / "copies", "study"))
