"""MLflow's sqlite file: whole or not there, one mirror at a time, and told when its folder was moved."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from test_tracking import copy_named

from embeddings_store.errors import RunError
from finetune.tracking.mlflow_file import make_database, sqlite_file
from reports import trackers
from reports.mlflow_tracker import MlflowTracker
from reports.trackers import open_tracker

STORE = "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore"
DAMAGED = "if mlflow.db is damaged, or was left half-made, move it away and mirror again"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one mirrored run."""
    folder = tmp_path_factory.mktemp("whole") / "first"
    folder.mkdir()
    MlflowTracker(uri_of(folder), "study").keep(copy_named("one", folder))
    return folder


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////somewhere/a.db", "a.db"),
        ("sqlite+pysqlite:///b.db?timeout=5", "b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://127.0.0.1:5000", None),
        ("postgresql://server/mlflow", None),
        ("./mlruns", None),
    ],
)
def test_the_file_of_an_address(uri: str, name: str | None) -> None:
    file = sqlite_file(uri)
    assert (file and file.name) == name
    assert file is None or file.is_absolute()


def test_a_mirror_killed_while_it_makes_the_tables_leaves_nothing(tmp_path: Path, whole: Path) -> None:
    killed = (
        "import os, signal, sqlalchemy\n"
        "def stop(connection, cursor, statement, *rest):\n"
        "    if statement.lstrip().upper().startswith('ALTER TABLE'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'before_cursor_execute', stop)\n"
        "from reports.mlflow_tracker import MlflowTracker\n"
        f"MlflowTracker({uri_of(tmp_path)!r}, 'study')\n"
    )
    done = subprocess.run([sys.executable, "-c", killed], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert list(tmp_path.glob(".*.aside"))
    with patch(STORE, CopyOf(whole / "mlflow.db")):
        make_database(tmp_path / "mlflow.db")
    tracker = MlflowTracker(uri_of(tmp_path), "another")
    tracker.keep(copy_named("one", tmp_path))
    assert tracker.has("one")
    assert not list(tmp_path.glob(".*.aside"))


def test_an_empty_file_is_no_database(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with patch(STORE, CopyOf(whole / "mlflow.db")):
        make_database(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_size


class CopyOf:
    """Stands in for seconds of migrations."""

    def __init__(self, made: Path) -> None:
        self.made, self.engine = made, self

    def __call__(self, uri: str, artifacts: str) -> "CopyOf":
        shutil.copy(self.made, uri.removeprefix("sqlite:///"))
        return self

    def dispose(self) -> None:
        pass


def test_a_half_made_database_is_told_with_a_way_back(tmp_path: Path, whole: Path) -> None:
    shutil.copy(whole / "mlflow.db", tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(RunError, match=DAMAGED):
        MlflowTracker(uri_of(tmp_path), "study")


@pytest.mark.parametrize("to", ["mlflow", "wandb"])
def test_a_second_mirror_waits_for_the_first_and_says_so(tmp_path: Path, whole: Path, to: str) -> None:
    shutil.copy(whole / "mlflow.db", tmp_path / "mlflow.db")
    place = uri_of(tmp_path) if to == "mlflow" else str(tmp_path)
    told: list[str] = []
    inside: list[str] = []

    def mirror() -> None:
        with open_tracker(to, place, "another", tell=told.append):
            inside.append("second")

    with opened(to), open_tracker(to, place, "another", tell=told.append):
        second = threading.Thread(target=mirror)
        second.start()
        deadline = time.monotonic() + 20
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        assert inside == []
        inside.append("first")
    second.join(20)
    assert inside == ["first", "second"]
    assert told == [f"another `reports track` is writing to {place}: waiting for it"]


def opened(to: str) -> Any:
    """Open nothing: the lock alone is looked at."""
    return patch.dict(trackers.TRACKERS, {to: lambda *_: object()})


def test_a_folder_that_was_moved_is_told(tmp_path: Path, whole: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    shutil.copy(whole / "mlflow.db", first / "mlflow.db")
    MlflowTracker(uri_of(first), "mine").keep(copy_named("one", tmp_path))
    assert MlflowTracker(uri_of(first), "mine").has("one")
    first.rename(second)
    with pytest.raises(RunError, match=r"--experiment mine: .*first/mlartifacts, which is not there.*another"):
        MlflowTracker(uri_of(second), "mine")
    other = MlflowTracker(uri_of(second), "other")
    assert not other.has("one")
    other.keep(copy_named("one", tmp_path))
    assert other.has("one")
    second.rename(first)
    assert MlflowTracker(uri_of(first), "mine").has("one")


def test_a_copy_whose_files_are_gone_is_made_again(tmp_path: Path, whole: Path) -> None:
    shutil.copy(whole / "mlflow.db", tmp_path / "mlflow.db")
    tracker = MlflowTracker(uri_of(tmp_path), "mine")
    tracker.keep(copy_named("one", tmp_path))
    shutil.rmtree(tmp_path / "mlartifacts")
    assert not tracker.has("one")
    tracker.keep(copy_named("one", tmp_path))
    assert tracker.has("one")


def test_a_run_lasts_as_long_as_it_did(whole: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(uri_of(whole))
    (row,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert (row.info.start_time, row.info.end_time) == (1000, 3000)
