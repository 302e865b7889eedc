"""Worker processes of a search: they mind no file of the user's, end with their parent, and a dead one ends the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from classify_study import make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.features.table import FeatureChoice
from classify.fitting.model import ModelSpec
from classify.fitting.source import FeatureSource
from classify.search import workers
from classify.search.scoring import FoldScorer
from classify.search.workers import open_folds
from embeddings_store.errors import RunError

SPEC = ModelSpec("linear", {"C": 1.0}, FeatureChoice("last", ("mean",)), "mean-logits")

SEARCHING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
from test_search_workers import SPEC, scorer_at
from classify.search.workers import open_folds
from embeddings_store.terminal.console import new_app, run_command

app = new_app("search")

@app.command()
def search(folder: Path) -> None:
    with open_folds(scorer_at(folder), 2) as folds:
        for wait in [folds.ask(SPEC, number) for number in (0, 1)]:
            wait()
        print("ready", flush=True)
        time.sleep(300)

if __name__ == "__main__":
    run_command(app)
"""


def scorer_at(folder: Path) -> FoldScorer:
    study = make_study(32, effect=2.0)
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    source = FeatureSource(cohort, stored.pooled, stored.space).only("train")
    return FoldScorer(source, classes=4, seed=0, folds=2)


def children(parent: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue
        if int(rest.rpartition(") ")[2].split()[1]) == parent:
            found.add(int(number))
    return found


def ended(number: int) -> bool:
    """Say whether a process is gone, or a zombie that nobody has asked for yet."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".aside")]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_no_signal_leaves_workers_or_vectors_and_a_file_of_the_users_is_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "random.py").write_text('print("my own notes")')
    (tmp_path / "search.py").write_text(SEARCHING)
    started: dict[signal.Signals, subprocess.Popen[str]] = {}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        place = tmp_path / number.name
        place.mkdir()
        started[number] = subprocess.Popen(
            (sys.executable, tmp_path / "search.py", Path(__file__).parent, place), cwd=tmp_path / "work", text=True,
            env=os.environ | {"TMPDIR": str(place)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    for number, process in started.items():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        of_it = children(process.pid)
        assert len(of_it) >= 2
        assert len(leftovers(tmp_path / number.name)) == 1
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        until = time.monotonic() + 20
        while time.monotonic() < until and not all(map(ended, of_it)):
            time.sleep(0.1)
        assert all(map(ended, of_it))
        if number is signal.SIGKILL:
            continue
        assert process.returncode == 130
        assert "interrupted: nothing half-written was published" in said
        assert leftovers(tmp_path / number.name) == []
    place = tmp_path / "SIGKILL"
    assert len(leftovers(place)) == 1
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with open_folds(scorer_at(tmp_path), 2):
        assert len(leftovers(place)) == 1, "its own alone"
    assert leftovers(place) == []


def test_a_worker_that_dies_ends_the_run_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workers.ONE_THREAD, "PYTHONHOME", "/nonexistent")
    with (
        pytest.raises(RunError, match=r"a worker process ended by itself: .* exit codes .*EXIT\(1\).* Try --jobs 1"),
        open_folds(scorer_at(tmp_path), 2) as folds,
    ):
        folds.ask(SPEC, 0)()
    assert "PYTHONSAFEPATH" not in os.environ
