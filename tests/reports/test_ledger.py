"""The page says how often people of the test split were looked at, and never "never" above numbers of test."""

import json
from pathlib import Path

import pytest
from simulated_run import build_run

from classify.run.ledger import LEDGER
from embeddings_store.errors import RunError
from reports.ledger import read_looks, say_looks, say_resplits
from reports.runs import FinishedRun, read_runs

SMALL = {"model": "linear", "participants": 40}


def looked(runs: Path) -> str:
    return say_looks(read_looks(runs, read_runs(runs)))


def write_ledger(runs: Path, *looks: tuple[str, str]) -> None:
    lines = [{"run": run, "date": "2026-11-20T10:00:00Z", "cohort_sha256": cohort} for run, cohort in looks]
    (runs / LEDGER).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_no_look_means_never(tmp_path: Path) -> None:
    build_run(tmp_path, "a", **SMALL)
    assert looked(tmp_path) == "never"


def test_looks_at_these_people_count_whatever_their_cohort(tmp_path: Path) -> None:
    build_run(tmp_path, "a", **SMALL)
    build_run(tmp_path / "other", "b", **SMALL, change={"cohort_sha256": "b" * 64})
    write_ledger(tmp_path, ("a", "c0ffee" + "0" * 58), ("b", "b" * 64), ("gone", "d" * 64))
    assert looked(tmp_path) == "2 times (a on 2026-11-20; b on 2026-11-20)"


def test_a_lost_ledger_is_made_good_by_the_record(tmp_path: Path) -> None:
    entry = {"split": "test", "date": "2026-11-21T10:00:00+00:00"}
    build_run(tmp_path, "a", **SMALL, change={"evaluations": [entry]})
    assert looked(tmp_path) == "once (a on 2026-11-21)"


def test_numbers_of_test_without_any_look_are_one(tmp_path: Path) -> None:
    folder = build_run(tmp_path, "a", **SMALL)
    record = json.loads((folder / "run.json").read_text())
    record["metrics"]["participant"]["test"] = record["metrics"]["participant"]["val"]
    (folder / "run.json").write_text(json.dumps(record))
    assert looked(tmp_path) == "once (a on a day that nothing names)"


@pytest.mark.parametrize("line", ["garbage", "[]", '{"run": "x"}'])
def test_a_damaged_ledger_is_an_error(tmp_path: Path, line: str) -> None:
    build_run(tmp_path, "a", **SMALL)
    (tmp_path / LEDGER).write_text(line + "\n")
    with pytest.raises(RunError, match="line 1"):
        looked(tmp_path)


def test_a_line_that_was_cut_hides_no_other(tmp_path: Path) -> None:
    build_run(tmp_path, "a", **SMALL)
    write_ledger(tmp_path, ("a", "c0ffee" + "0" * 58))
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"run": "a", "da')
    assert looked(tmp_path) == "once (a on 2026-11-20)"


def test_a_resplit_is_shown_with_its_reason(tmp_path: Path) -> None:
    build_run(tmp_path, "a", **SMALL, change={"resplit": {"why": "3 people moved", "reason": "a new release"}})
    runs: list[FinishedRun] = read_runs(tmp_path)
    assert say_resplits(runs) == ["Run a: 3 people moved. Reason given: a new release."]


def test_a_published_split_that_shares_people_is_a_caution_of_each_page(tmp_path: Path) -> None:
    origin = {"kind": "column", "column": "split", "dataset": "kermany_oct2017", "official": True, "shared_people": 7}
    build_run(tmp_path, "a", **SMALL, change={"splits_from": origin})
    build_run(tmp_path, "b", **SMALL, change={"splits_from": origin | {"shared_people": 0}})
    (said,) = say_resplits(read_runs(tmp_path))
    assert said.startswith("Run a: 7 people lie in several parts of the published split of kermany_oct2017")
    assert said.endswith("too good for people who were never seen.")
