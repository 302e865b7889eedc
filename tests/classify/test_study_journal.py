"""A journal that a crash cut, and a study that is in use: gone on with, or refused by name."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from classify.errors import RunFolderError
from classify.search.journal import hold_study, mend_journal
from classify.search.spaces import SPACES, SearchSpace
from classify.search.study import Drawing, Study, open_study
from embeddings_store.errors import RunError, UsageError

SPACE = SearchSpace("knn", SPACES["knn"], ("last", "1"), ("mean",), ("mean-logits",))
DRAWING = Drawing(SPACE.draw, 0, first=SPACE.tried_first(), together=4)

KILLED = """
import os, signal, sys
from pathlib import Path
from optuna.storages.journal import JournalFileSymlinkLock
from classify.search.journal import hold_study
os.chdir(sys.argv[1])
with hold_study(Path("study")):
    JournalFileSymlinkLock("study/journal").acquire()
    print("ready", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def search(journal: Path, trials: int) -> list[str]:
    """Bring a study to so many trials, the third and every seventh pruned; return what was told."""
    told: list[str] = []
    with open_study(journal, "search", DRAWING, told.append) as study:
        for number in range(len(study.finished()), trials):
            trial = study.ask(number)
            trial.report(0.1 * number, 0)
            study.end(trial, None if number % 7 == 2 else 0.1 * number)
    return told


def values(journal: Path) -> list[tuple[str, float | None, dict[str, object]]]:
    return [(one.state.name, one.value, one.params) for one in Study(journal, "search", DRAWING).finished()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    journal = tmp_path_factory.mktemp("whole") / "journal"
    assert search(journal, 9) == []
    return journal


@pytest.mark.parametrize("damage", ["cut", "nul", "nul line", "text", "half a letter", "deep", "other json"])
def test_a_damaged_end_is_cut_off_said_and_the_study_is_the_one_that_ran_through(
    whole: Path, tmp_path: Path, damage: str
) -> None:
    data = whole.read_bytes()
    last = len(data.splitlines(keepends=True)[-1])
    ends = {
        "cut": data[:-25], "nul": data[:-last] + bytes(last), "nul line": data[:-last] + bytes(last - 1) + b"\n",
        "text": data[:-last] + b"<html>\n", "half a letter": data[: -last // 2] + b"\xc3\n",
        "deep": data[:-last] + b"[" * 100_000 + b"\n", "other json": data[:-last] + b"17\n",
    }  # fmt: skip
    journal = tmp_path / "journal"
    journal.write_bytes(ends[damage])
    (told,) = search(journal, 9)
    assert "bytes of its journal were not whole and were cut off; 8 trials are left" in told
    assert values(journal) == values(whole)


def test_a_journal_cut_anywhere_goes_on(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    lines = data.splitlines(keepends=True)
    for cut in sorted({0, 1, len(lines[0]), len(data), *range(0, len(data), 97)}):
        journal = tmp_path / str(cut) / "journal"
        journal.parent.mkdir()
        journal.write_bytes(data[:cut])
        kept = [end for n in range(len(lines) + 1) if (end := sum(map(len, lines[:n]))) <= cut][-1]
        assert mend_journal(journal) == cut - kept
        assert values(journal) == values(whole)[: len(values(journal))]
    assert search(tmp_path / "97" / "journal", 9) == []
    assert values(tmp_path / "97" / "journal") == values(whole)


def test_a_journal_of_an_earlier_version_goes_on(reference: Path, tmp_path: Path) -> None:
    (kept,) = (reference / "environment_reports").glob("f4_study_whole/*/search.journal")
    journal = tmp_path / "journal"
    journal.write_bytes(kept.read_bytes())
    finished = Study(journal, "search", DRAWING).finished()
    assert len(finished) >= 4
    assert all(one.state.name in {"COMPLETE", "PRUNED"} for one in finished)


def test_a_process_that_died_between_enqueue_and_ask_is_forgotten(whole: Path, tmp_path: Path) -> None:
    import optuna

    journal = tmp_path / "journal"
    journal.write_bytes(whole.read_bytes())
    kept = Study(journal, "search", DRAWING)
    kept._kept.enqueue_trial({"n_neighbors": 3})  # as versions before this one began a trial
    kept._kept.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    assert search(journal, 10) == []
    search(tmp_path / "straight" / "journal", 10)
    assert values(journal) == values(tmp_path / "straight" / "journal")


def test_a_journal_that_contradicts_itself_is_one_line(whole: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(RunFolderError, match="move it away to begin again"):
        search(journal, 9)
    journal.write_text(json.dumps({"op_code": 99}) + "\n")
    with pytest.raises(RunFolderError, match="move it away"):
        search(journal, 9)


def test_another_search_and_no_score_are_one_line(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="belongs to another search"):
        Study(whole, "other", DRAWING)
    with pytest.raises(RunError, match="at least one of 0 trials, got none"):
        Study(tmp_path / "journal", "search", DRAWING).best()
    study = Study(tmp_path / "journal", "search", DRAWING)
    study.end(study.ask(0), float("nan"))
    with pytest.raises(RunError, match="at least one of 1 trials, got none"):
        study.best()


def test_a_study_in_use_names_its_process_and_one_of_a_killed_process_goes_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(Path("study/journal"), 1)
    holder = subprocess.Popen(
        (sys.executable, "-c", KILLED, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    for _ in range(2):  # a refusal leaves the name for the next one
        with pytest.raises(UsageError, match=rf"process {holder.pid} on "), hold_study(Path("study")):
            pass
    holder.communicate()
    assert holder.returncode == -signal.SIGKILL
    assert os.path.lexists("study/journal.lock")
    assert search(Path("study/journal"), 2) == []
