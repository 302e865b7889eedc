"""Options of a benchmark: Ray that is missing or fails, published splits that share people, and slices in order."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark_world import PLAN, run_plan
from simulated_run import build_run

from classify.comparing.cells import Cell
from classify.run.folder import Run, load_run
from embeddings_store.errors import OctProbeError, RunError, UsageError
from reports.benchmark import spread
from reports.benchmark.cells import Made
from reports.benchmark.plan import Plan, read_plan
from reports.benchmark.results import _fewer_slices
from reports.benchmark.sources import notes_of

PUBLISHED = """
datasets:
  kermany_oct2017: {{bucket: "{bucket}", tasks: [disease], official_splits: true}}
encoders:
  pictures: {{family: "random:tiny,family=dinov2", slices: centre}}
heads: [linear]
"""


def plan_of(folder: Path, text: str = PLAN) -> Plan:
    (folder / "plan.yaml").write_text(text)
    return read_plan(folder / "plan.yaml")


def run_in(folder: Path) -> Run:
    return load_run(build_run(folder, "run", model="linear", participants=60))


def test_ray_that_cannot_be_stops_before_anything_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_of(tmp_path)
    with pytest.raises(UsageError, match="--ray-address: only --ray goes to a Ray cluster"):
        run_plan(tmp_path, ray_address="127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"^--ray, .*pip install 'octprobe\[ray\]'"):
        run_plan(tmp_path, ray=True)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_ray_worker_that_ends_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WorkerCrashedError(Exception):
        """As Ray has it."""

    def get(_: object) -> None:
        raise WorkerCrashedError("a page of words")

    closed: list[bool] = []
    fake = SimpleNamespace(
        init=lambda **_: None, remote=lambda **_: lambda make: make, get=get, shutdown=lambda: closed.append(True),
        exceptions=SimpleNamespace(RayError=WorkerCrashedError),
    )  # fmt: skip
    monkeypatch.setattr(spread, "require_ray", lambda: fake)
    with pytest.raises(RunError, match=r"^ray: a cell ended with WorkerCrashedError; the same command goes on"):
        spread.spread_cells(plan_of(tmp_path), [], tmp_path, None, lambda _: None)
    assert closed == [True]


def test_a_published_split_that_shares_people_is_taken_where_the_plan_says_so(
    tmp_path: Path, reference: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, PUBLISHED.format(bucket=reference / "datasets" / "kermany_oct2017"))
    with pytest.raises(OctProbeError, match="no cell could be made"):  # in miniature it has too few people
        run_plan(tmp_path)
    assert "it was taken all the same (--official-splits)" in capfd.readouterr().err


def test_the_page_says_that_a_published_split_shares_people(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    origin = {"official": True, "shared_people": 3, "dataset": "kermany_oct2017", "kind": "column"}
    cohort = replace(run.record.cohort, splits_from=origin)
    shared = replace(run, record=replace(run.record, cohort=cohort))
    made = [
        Made("kermany", "disease", name, "linear", "", Cell(name, "", one, reused=True))
        for name, one in (("a", shared), ("b", shared), ("c", run))
    ]
    (note,) = (one for one in notes_of(plan_of(tmp_path), made, {}) if "several parts" in one)
    assert note.startswith("kermany: 3 people lie in several parts of the published split of kermany_oct2017")


def test_fewer_slices_are_held_against_all_of_them_in_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, PLAN.replace("slices: [centre, 2]", "slices: [16, all, centre]"))
    names = ("volumes", "dinov2@all", "dinov2@16", "dinov2@centre")
    run = run_in(tmp_path)
    made = [Made("here", "t", name, "linear", "", Cell(name, "", run, reused=True)) for name in names]
    assert list(_fewer_slices(plan, made).items()) == [
        ("dinov2@centre/linear", "dinov2@all/linear"), ("dinov2@16/linear", "dinov2@all/linear"),
    ]  # fmt: skip
    assert _fewer_slices(plan, made[:1] + made[2:]) == {}, "the most of the plan has no cell here"
