"""docs/reliability.md shows what was measured and names tests that are there; a handful of kills loses nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import growth_table
import probe_growth
import pytest
from kill_digests import Left, compare, plain, unsteady_files
from reliability_page import PAGE, RESULT, markdown_growth, tables

from embeddings_store.storage import Storage

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run_script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT, HERE.parent, HERE)))
    return subprocess.run(
        [sys.executable, str(HERE / name), *words], capture_output=True, text=True, check=False, timeout=400,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_page_shows_what_is_stored() -> None:
    page, drawn = PAGE.read_text(), tables(json.loads(RESULT.read_text()))
    assert set(drawn) == set(re.findall(r"<!-- /(\w+) -->", page))
    for name, block in drawn.items():
        assert f"<!-- {name} -->\n{block}\n<!-- /{name} -->" in page, (
            f"{name}: python {HERE.name}/reliability_page.py draws it"
        )


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE.read_text()))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_a_handful_of_kills(tmp_path: Path) -> None:
    words = ("--kills", "4", "--seed", "3", "--only", "retry", "--json", str(tmp_path / "rows.json"))
    done = run_script("kill_commands.py", *words)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())["kills"]
    assert {row["signal"] for row in rows} == {"KILL", "TERM", "HUP", "INT"}
    assert sum(row["kills"] for row in rows) == 4


def test_the_harness_sees_what_is_lost_wrong_twice_or_left() -> None:
    whole = Left({"runs/RUN-a/run.json": ["1"], "out/study.html": ["2"], "out/case.html": ["3"], "x.journal": ["4"]})
    noisy = unsteady_files(whole, Left({**whole.files, "x.journal": ["5"]}))
    assert noisy == {"x.journal"}
    left = Left({"runs/RUN-a/run.json": ["1", "1"], "out/study.html": ["9"], "x.journal": ["8"], "out/.tmp": ["0"]})
    found = compare(left, whole, noisy, finished_before=0)
    assert (found.lost, found.wrong) == (["out/case.html"], ["out/study.html"])
    assert (found.duplicated, found.leftovers) == (["runs/RUN-a/run.json"], ["out/.tmp"])
    assert compare(left, whole, noisy, finished_before=1).duplicated == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs/20261129-201816-lgbm-healthy-vs-rest-f5e0e4/run.json", "runs/RUN-lgbm-healthy-vs-rest/run.json"),
        ("made 2026-11-29T20:18:16+00:00 in 3.2 s", "made T in T"),
        ('{"seconds": {"read": 0.5, "wall": 7}}', '{"seconds": T}'),
    ],
)
def test_times_and_lots_do_not_count(text: str, said: str) -> None:
    assert plain(text) == said


def test_the_growth_table_in_its_quick_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get", "put", "delete", "read_into", "list_sizes", "list_times", "list_names", "list_folders"):
        monkeypatch.setattr(Storage, name, getattr(Storage, name))  # so that the counting ends with the test
    growth_table.fill(tmp_path, rows := 720)
    found = [growth_table.measure_one(name, tmp_path, rows) | {"inodes": 1} for name in growth_table.CALLS]
    assert all(line["requests"] > 0 for line in found)
    drawn = markdown_growth([line | {"date": "2026-11-29", "commit": "abc", "load": 0.1} for line in found])
    assert "| verify | " in drawn
    assert "| inodes | 1 |" in drawn


def test_the_probe_of_many_rows_in_its_quick_form() -> None:
    found = probe_growth.probe_once(960, "dummy")
    assert found["seconds"].keys() >= {"read", "search", "fit", "evaluate", "nuisance", "novelty", "wall"}
    twice = found | {"rows": 1920, "seconds": {name: 2.2 * spent for name, spent in found["seconds"].items()}}
    drawn = probe_growth.draw([found, twice]).splitlines()
    assert drawn[0] == "| stage | dummy, 960 rows | dummy, 1,920 rows | time a row, last to first |"
    assert [line for line in drawn if line.startswith("| wall |") and line.endswith("| 1.10x |")]
