"""A run that is killed loses nothing: run again, and the store equals that of a run without interruption."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import Command

PARTICIPANTS = 14
KILLS = 3


@pytest.fixture
def bucket(tmp_path: Path, command: Command) -> Path:
    done = command("oct-phantom", "--out", tmp_path / "bucket", "--participants", PARTICIPANTS, "--scale", "0.05")
    assert done.code == 0, done.stderr
    return tmp_path / "bucket"


def arguments(bucket: Path, store: Path) -> list[str]:
    return ["--bucket", str(bucket), "--store", str(store), "--encoder", "random:tiny"]


def commits(store: Path) -> int:
    return sum(1 for _ in (store / "commit").rglob("c*"))


def run_until_killed(bucket: Path, store: Path, rng: random.Random) -> None:
    """Start an extraction in its own process; SIGKILL it a moment after it has begun to commit rows."""
    before = commits(store) if store.exists() else 0
    script = Path(sys.executable).parent / "extract-embeddings"
    process = subprocess.Popen([script, *arguments(bucket, store)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if store.exists() and commits(store) > before + rng.randint(1, 20):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed: use more volumes"


def test_a_killed_extraction_ends_like_an_uninterrupted_one(tmp_path: Path, bucket: Path, command: Command) -> None:
    rng = random.Random(5)
    interrupted, whole = tmp_path / "interrupted", tmp_path / "whole"
    for _ in range(KILLS):
        run_until_killed(bucket, interrupted, rng)
    partly = command("extract-embeddings", "status", "--store", interrupted, "--json").json
    assert 0 < partly["committed"] < partly["rows"]

    for store in (interrupted, whole):
        done = command("extract-embeddings", *arguments(bucket, store))
        assert done.code == 0, done.stderr

    same = command("extract-embeddings", "diff", interrupted, whole, "--json")
    assert (same.code, same.json["only_a"], same.json["only_b"], same.json["different"]) == (0, 0, 0, 0)
    checked = command("extract-embeddings", "verify", "--store", interrupted, "--json").json
    assert checked["checked"] == partly["rows"]
    assert (checked["bad"], checked["orphans"]) == (0, 0)
