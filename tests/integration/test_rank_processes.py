"""Several processes on one bucket, each with its own volumes: one may die for good, and any number does the rest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, run_here

PARTICIPANTS = 12
RANKS = 3
SCRIPT = Path(sys.executable).parent / "extract-embeddings"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "bucket"
    done = run_here("oct-phantom", "--out", folder, "--participants", PARTICIPANTS, "--scale", "0.05")
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def whole(bucket: Path) -> Path:
    """The store of one process."""
    store = bucket.parent / "whole"
    assert run_here("extract-embeddings", *arguments(bucket, store)).code == 0
    return store


def arguments(bucket: Path, store: Path) -> list[str]:
    return ["--bucket", str(bucket), "--store", str(store), "--encoder", "random:tiny", "--json"]


def start(bucket: Path, store: Path, *more: object, **surroundings: str) -> subprocess.Popen[str]:
    line = [str(SCRIPT), *arguments(bucket, store), *map(str, more)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **surroundings}
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    found: dict[str, Any] = json.loads(stdout)
    return found


def commits(store: Path) -> set[int]:
    return {int(path.name.split(".")[1]) for path in (store / "commit").rglob("c.*")} if store.exists() else set()


def assert_whole(store: Path, whole: Path, command: Command) -> None:
    """Compare with the store of one process, bit by bit."""
    same = command("extract-embeddings", "diff", store, whole, "--json").json
    assert (same["only_a"], same["only_b"], same["different"], same["max_abs"]) == (0, 0, 0, 0.0)


@pytest.mark.slow
def test_one_of_three_is_killed_and_never_comes_back(
    tmp_path: Path, bucket: Path, whole: Path, command: Command
) -> None:
    store, victim = tmp_path / "store", 2
    processes = [start(bucket, store, "--rank", number, "--ranks", RANKS) for number in range(RANKS)]
    deadline = time.monotonic() + 60
    while not any(row % RANKS == victim for row in commits(store)) and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    processes[victim].communicate()
    assert processes[victim].returncode == -signal.SIGKILL, "it was done before it could be killed: use more volumes"
    summaries = [finish(process) for number, process in enumerate(processes) if number != victim]

    selected, done = summaries[0]["selected"], commits(store)
    assert {row for row in range(selected) if row % RANKS != victim} <= done
    assert 0 < sum(row % RANKS == victim for row in done) < selected // RANKS
    assert [summary["ranks"] for summary in summaries] == [RANKS] * (RANKS - 1)

    rest = [start(bucket, store, "--rank", number, "--ranks", 2) for number in range(2)]
    assert sum(finish(process)["seconds"]["encode"] > 0 for process in rest) > 0
    assert commits(store) == set(range(selected))
    assert_whole(store, whole, command)


def test_a_job_array_needs_no_option(tmp_path: Path, bucket: Path, whole: Path, command: Command) -> None:
    """The same command in every task: the scheduler's words tell them apart."""
    store = tmp_path / "store"
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"}
    tasks = [start(bucket, store, **array, SLURM_ARRAY_TASK_ID=str(number)) for number in (1, 2)]
    summaries = [finish(task) for task in tasks]
    assert [(one["rank"], one["ranks"]) for one in summaries] == [(0, 2), (1, 2)]
    assert commits(store) == set(range(summaries[0]["selected"]))
    assert_whole(store, whole, command)
