"""SIGINT and SIGTERM: what was begun is finished, the exit code says what happened, and the next run does the rest."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, run_here

PARTICIPANTS = 6
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SCRIPT = Path(sys.executable).parent / "extract-embeddings"

SLOW = """
import sys, time
from extract import cli
from extract.encode import BatchEncoder

submit, forward_s = BatchEncoder.submit, float(sys.argv.pop())

def slowly(self, batch):
    time.sleep(forward_s)
    return submit(self, batch)

BatchEncoder.submit = slowly
sys.argv[0] = "extract-embeddings"
cli.main()
"""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "bucket"
    done = run_here("oct-phantom", "--out", folder, "--participants", PARTICIPANTS, "--scale", "0.05")
    assert done.code == 0, done.stderr
    return folder


def arguments(bucket: Path, store: Path) -> list[str]:
    return ["--bucket", str(bucket), "--store", str(store), "--encoder", "random:tiny", "--json"]


def commits(store: Path) -> int:
    return sum(1 for _ in (store / "commit").rglob("c*")) if store.exists() else 0


def wait_until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, "the run was over before it could be stopped: use more volumes"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_the_first_signal_ends_the_run_cleanly(
    tmp_path: Path, bucket: Path, command: Command, number: signal.Signals
) -> None:
    stopped = tmp_path / "stopped"
    process = subprocess.Popen(
        [SCRIPT, *arguments(bucket, stopped)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: commits(stopped) > 5, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODES[number], stderr
    summary = json.loads(stdout)
    assert summary["stopped_by"] == number.name
    assert 5 < summary["committed"] == commits(stopped) < summary["selected"]
    assert f"{number.name}: no new volumes are taken" in stderr
    assert "run the same command again" in stderr
    checked = command("extract-embeddings", "verify", "--store", stopped, "--json").json
    assert (checked["checked"], checked["bad"], checked["orphans"]) == (summary["committed"], 0, 0)

    again = command("extract-embeddings", *arguments(bucket, stopped))
    assert (again.code, again.json["already_done"]) == (0, summary["committed"])
    assert again.json["committed"] == again.json["selected"]


def test_what_the_encoder_has_begun_is_written(tmp_path: Path, bucket: Path, command: Command) -> None:
    """Forwards of two seconds are under way when the signal comes: both become rows, and nothing else does."""
    store = tmp_path / "store"
    process = start_slowly(bucket, store, forward_s=2)
    wait_until((store / "workers").exists, process)
    time.sleep(1.0)
    assert commits(store) == 0
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    summary = json.loads(stdout)
    assert commits(store) == summary["committed"] == summary["workers"]["encode"]


def test_a_second_signal_ends_it_at_once(tmp_path: Path, bucket: Path) -> None:
    process = start_slowly(bucket, tmp_path / "store", forward_s=100)
    wait_until((tmp_path / "store" / "workers").exists, process)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    for line in process.stderr:
        if "no new volumes are taken" in line:
            break
    assert process.poll() is None, "it waits for the forwards that were begun"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM
    assert commits(tmp_path / "store") == 0


def start_slowly(bucket: Path, store: Path, *, forward_s: int) -> subprocess.Popen[str]:
    """Start a run whose every forward takes so long."""
    line = [sys.executable, "-c", SLOW, *arguments(bucket, store), str(forward_s)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
