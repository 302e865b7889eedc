"""The benchmarks' frame: medians, ratios, verdicts, pinned threads, what is kept, and where the table goes."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import run as bench
from comparison import Goal, Row, not_measured, time_row
from peak_memory import Peak
from result_file import RESULTS, make_record, read_record
from result_table import describe_run, markdown_table, replace_block, summary_table
from settings import pinned_environment
from side_by_side import Rounds, in_turn
from sources import current_commit, sources_digest

TODAY = date(2026, 11, 22)
TIMED = Rounds((1.0, 9.0, 2.0), (6.0, 5.0, 40.0), (1.0, 1.0, 1.0), (4.0, 4.0, 4.0), agreement="equal")


def row(**changes: Any) -> Row:
    words: dict[str, Any] = {"id": "P1", "work": "work", "peer": "peer", "unit": "s", "ours": 2.0, "peer_value": 6.0}
    return Row(**{**words, **changes})


def stored(load: float = 0.5, full: bool = False, bench: str = "bench_bootstrap", **changes: Any) -> dict[str, Any]:
    """A row as it is stored, measured on the code that is here now."""
    measured = {"bench": bench, "date": "2026-11-22", "commit": "abc", "sources": sources_digest(bench)}
    load_average = {"before": load, "after": load}
    return row(**changes).to_dict() | {"threads": 1, "full": full, "load_average": load_average} | measured


def test_a_row_of_times_takes_medians() -> None:
    made = time_row(TIMED, id="P1", work="work", peer="peer", notes=["one", ""])
    assert (made.ours, made.peer_value, made.ratio, made.cpu_ratio, made.rounds) == (2.0, 6.0, 3.0, 4.0, 3)
    assert made.notes == "equal; one"


def test_an_extrapolated_peer_scales_its_ratio() -> None:
    assert time_row(TIMED, id="P8", work="work", peer="peer", peer_scale=10).ratio == 30.0


@pytest.mark.parametrize(
    ("goal", "met"),
    [(Goal(ratio=3.0), True), (Goal(ratio=3.01), False), (Goal(ours=2.0), True), (Goal(ours=1.9), False), (None, None)],
)
def test_the_verdict_follows_the_goal(goal: Goal | None, met: bool | None) -> None:
    made = row(goal=goal)
    assert made.met is met
    assert made.to_dict()["met"] is met


def test_a_goal_that_is_not_met_is_shown_as_not_met() -> None:
    table = markdown_table([stored(goal=Goal(ratio=8.0), work="a|b")])
    head, _, line = table.splitlines()
    assert "| 3x | >= 8x | **not met** |" in line
    assert "a\\|b" in line
    assert line.replace("\\|", "").count("|") == head.count("|")


def test_the_summary_shows_the_worst_row_of_each_kind() -> None:
    rows = [
        stored(id="P4", work="far", goal=Goal(ratio=2.0)),
        stored(id="P4", work="short", goal=Goal(ratio=4.0)),
        stored(id="P4", work="free"),
        stored(id="P9", work="slow start", goal=Goal(ours=2.5)),
        stored(id="P9", work="quick start", ours=0.5, goal=Goal(ours=2.5)),
    ]
    _, _, store, start = summary_table(rows).splitlines()
    assert store == "| P4 | short | peer | 3x | >= 4x | **not met** | 2026-11-22, abc | 1 of 2 |"
    assert start == "| P9 | slow start | peer | 2 s | <= 2.5 s | met | 2026-11-22, abc | 2 of 2 |"


def test_a_row_older_than_its_code_says_so() -> None:
    rows = [stored(work="new"), stored(work="old", goal=Goal(ratio=2.0)) | {"sources": "0"}]
    new, old = markdown_table(rows).splitlines()[2:]
    assert "2026-11-22, abc |" in new
    assert "2026-11-22, abc; **older than the code** |" in old
    assert "2026-11-22, abc; **older than the code** |" in summary_table(rows)
    record = make_record([stored()], None, today=TODAY, cores=2)
    assert "older than the code" not in describe_run(record)
    assert "**1 of 2 rows are older than the code that they measure" in describe_run(record | {"rows": rows})


def test_the_digest_follows_what_a_benchmark_imports(tmp_path: Path) -> None:
    files = {
        "tests/benchmarks/bench_x.py": "from classify.a import f\nimport numpy\n",
        "classify/__init__.py": "",
        "classify/a.py": "def f():\n    from classify import b\n",
        "classify/b.py": "1\n",
        "classify/c.py": "1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    first = sources_digest("bench_x", tmp_path)
    (tmp_path / "classify/c.py").write_text("2\n")
    assert sources_digest("bench_x", tmp_path) == first
    for name in ("classify/b.py", "classify/a.py", "tests/benchmarks/bench_x.py", "classify/__init__.py"):
        (tmp_path / name).write_text(files[name] + "# changed\n")
        assert sources_digest("bench_x", tmp_path) != first
        (tmp_path / name).write_text(files[name])


def test_a_row_of_the_page_without_a_mark_is_as_new_as_its_code() -> None:
    """Else: python tests/benchmarks/run.py --draw."""
    record = read_record(RESULTS / "linux-x86_64-2cpu.json")
    assert record is not None
    lines = bench.PAGE.read_text().partition("<!-- bench -->")[2].splitlines()
    drawn = [line for line in lines if re.match(r"\| P\d+ \| .*\| 20\d\d-", line)]
    assert len(drawn) == len(record["rows"])
    for line, row_there in zip(drawn, record["rows"], strict=True):
        old = row_there["sources"] != sources_digest(row_there["bench"])
        assert not old or "**older than the code**" in line, row_there["work"]


def test_what_was_not_measured_has_a_reason_and_no_verdict() -> None:
    made = not_measured("monai is not installed", id="P2", work="work", peer="MONAI", unit="s")
    assert made.met is None
    line = markdown_table([stored() | made.to_dict()])
    assert "| – | – | – | – | – | 2026-11-22, abc | not measured: monai is not installed |" in line


def test_sides_are_called_in_turn_and_the_warm_up_is_not_counted() -> None:
    called = []
    timed = in_turn(
        lambda: called.append("ours"), lambda: called.append("peer"), rounds=2, agree=lambda _ours, _peer: "equal"
    )
    assert called == ["ours", "peer"] * 3
    assert timed.count == 2
    assert min(timed.ours_wall_s + timed.peer_wall_s) >= 0


def test_results_that_differ_stop_a_benchmark() -> None:
    def agree(ours: int, peer: int) -> str:
        assert ours == peer
        return "equal"

    with pytest.raises(AssertionError):
        in_turn(lambda: 1, lambda: 2, rounds=1, agree=agree)


def test_memory_is_what_the_work_added() -> None:
    assert Peak(before_mb=300.0, highest_mb=420.0).above_mb == 120.0


def test_threads_are_pinned_for_every_library() -> None:
    environment = pinned_environment(3)
    assert {environment[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")} == {"3"}


def test_a_benchmark_runs_in_a_process_with_pinned_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench_threads.py").write_text(
        "import os\n"
        "from comparison import Goal, Row\n"
        "def measure(settings):\n"
        "    threads = float(os.environ['OMP_NUM_THREADS'])\n"
        "    return [Row('P1', 'work', 'peer', 's', ours=threads, peer_value=1.0, goal=Goal(ratio=1.0))]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (measured,) = bench.run_benchmark("bench_threads", threads=2, quick=False, full=False) or []
    assert (measured["ours_s"], measured["threads"], measured["met"]) == (2.0, 2, False)
    (tried,) = bench.run_benchmark("bench_threads", threads=2, quick=True, full=False) or []
    assert tried["met"] is None


def test_a_benchmark_that_fails_gives_no_row_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench_broken.py").write_text("def measure(settings):\n    assert False, 'they differ'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(bench.BENCHMARKS, "p1", "bench_broken")
    assert bench.main(["--only", "p1", "--results", str(tmp_path / "results")]) == 1
    assert "they differ" in capfd.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_new_measurement_replaces_its_rows_and_keeps_the_others() -> None:
    other = stored(id="P10", bench="bench_cached_probe")
    first = make_record([stored(), other, stored(full=True)], None, today=TODAY, cores=2)
    later = date(2026, 11, 30)
    second = make_record([stored(ours=1.0, work="renamed")], first, today=later, cores=2)
    assert [row["date"] for row in second["rows"]] == ["2026-11-30", "2026-11-22", "2026-11-22"]
    assert {row["commit"] for row in second["rows"]} == {current_commit()}
    assert [(row["id"], row["full"], row["ratio"]) for row in second["rows"]] == [
        ("P1", False, 6.0),
        ("P1", True, 3.0),
        ("P10", False, 3.0),
    ]


def test_benchmarks_of_one_kind_keep_each_others_rows() -> None:
    two = [stored(id="P13", bench=name) for name in ("bench_growth", "bench_extraction_growth")]
    first = make_record(two, None, today=TODAY, cores=2)
    assert len(make_record(two[:1], first, today=TODAY, cores=2)["rows"]) == 2


def test_rows_stay_where_a_package_is_not_installed_now() -> None:
    first = make_record([stored(id="P2", bench="bench_input")], None, today=TODAY, cores=2)
    first["versions"]["a peer that is not here"] = "1"
    second = make_record([stored()], first, today=TODAY, cores=2)
    assert [row["id"] for row in second["rows"]] == ["P1", "P2"]
    assert second["versions"]["a peer that is not here"] == "1"


def test_rows_of_other_versions_are_dropped() -> None:
    first = make_record([stored(id="P2", bench="bench_input")], None, today=TODAY, cores=2)
    first["versions"]["numpy"] = "0"
    assert [row["id"] for row in make_record([stored()], first, today=TODAY, cores=2)["rows"]] == ["P1"]


@pytest.mark.parametrize(("load", "provisional"), [(2.0, False), (2.1, True)])
def test_a_busy_machine_makes_the_result_provisional(load: float, provisional: bool) -> None:
    record = make_record([stored(load=load)], None, today=TODAY, cores=2)
    assert record["provisional"] is provisional
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("end", ["<!-- bench -->", "<!-- /bench -->"])
def test_the_table_replaces_its_block_only(end: str) -> None:
    once = replace_block(f"before\n<!-- bench -->\nold\n{end}\nafter", "new \\1")
    assert once == "before\n<!-- bench -->\nnew \\1\n<!-- /bench -->\nafter"
    assert replace_block(once, "new \\1") == once


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="bench"):
        replace_block("no markers", "table")


def test_unknown_benchmarks_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(["--only", "p99"])
    assert left.value.code == 2
    assert "p99" in capsys.readouterr().err
