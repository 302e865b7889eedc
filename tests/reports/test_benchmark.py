"""A whole benchmark in miniature: every number of its page again by scikit-learn, nothing twice, gaps by name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_kills import kill_often
from benchmark_world import PLAN, make_buckets, run_plan, without_when
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from classify.cohort.splits import OUT_OF_FOLD
from classify.judging.bootstrap import draw_replicates
from classify.judging.holm import adjust_holm
from classify.run.typed_record import as_json, read_typed
from embeddings_store.errors import OctProbeError
from reports.benchmark.options import BenchmarkOptions
from reports.benchmark.record import BenchmarkRecord
from reports.benchmark.run import benchmark
from reports.benchmark.tables import cell_text, make_tables

VARIANTS = ("volumes", "dinov2@centre", "dinov2@2")
MODELS = tuple(f"{one}/linear" for one in VARIANTS)
METRICS = ("balanced_accuracy", "macro_auroc")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("benchmark")
    make_buckets(folder)
    record = run_plan(folder)
    (folder / "first").mkdir()
    for path in (folder / "plan-benchmark").glob("benchmark.*"):
        shutil.copy(path, folder / "first")
    return folder, record


def people_of(folder: Path, dataset: str, run: str, model: str, split: str | None = None) -> pd.DataFrame:
    """Read what a cell said of its people, in one order."""
    path = folder / "plan-benchmark" / "runs" / dataset / run
    split = split or (OUT_OF_FOLD if dataset == "here" else "val")
    table = pd.read_parquet(path / "predictions.parquet")
    chosen = (table["model"] == model) & (table["level"] == "participant") & (table["split"] == split)
    return table[chosen].sort_values("unit").reset_index(drop=True)


def by_scikit(people: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, float]:
    """Both metrics by scikit-learn; NaN where a class is missing among the drawn."""
    label = people["label"].to_numpy()
    kept = np.ones(len(label), bool) if weights is None else weights > 0
    if len(set(label[kept])) < 2:
        return dict.fromkeys(METRICS, np.nan)
    given = None if weights is None else weights[kept]
    score = (people["logit_1"] - people["logit_0"]).to_numpy()
    decided = people[["logit_0", "logit_1"]].to_numpy().argmax(axis=1)
    return {
        "balanced_accuracy": balanced_accuracy_score(label[kept], decided[kept], sample_weight=given),
        "macro_auroc": roc_auc_score(label[kept], score[kept], sample_weight=given),
    }


def drawn_by_scikit(people: pd.DataFrame, seed: int) -> dict[str, np.ndarray]:
    """Both metrics in every draw of the participants."""
    counts = draw_replicates(people["participant"].to_numpy(str), replicates=20, seed=seed)
    order = np.searchsorted(counts.participant, people["participant"].to_numpy(str))
    each = [by_scikit(people, counts.counts[order, column]) for column in range(counts.counts.shape[1])]
    return {name: np.array([one[name] for one in each]) for name in METRICS}


def same(measured: dict[str, Any], drawn: np.ndarray) -> None:
    """A value with its percentile interval, as NumPy has it."""
    defined = drawn[1:][np.isfinite(drawn[1:])]
    assert measured["value"] == pytest.approx(drawn[0], abs=1e-9)
    assert (measured["low"], measured["high"]) == pytest.approx(tuple(np.percentile(defined, [2.5, 97.5])), abs=1e-9)


Drawn = dict[tuple[str, str], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def drawn(world: tuple[Path, dict[str, Any]]) -> Drawn:
    """Every line of every table, by dataset and name, in every draw of its people."""
    folder, record = world
    found = {}
    for board in record["boards"].values():
        for line in board["lines"]:
            with_covariates = line["name"].partition(" +")[2]
            model = f"embedding+{with_covariates}" if with_covariates else line["model"]
            people = people_of(folder, board["dataset"], line["run"], model)
            assert line["participants"] == len(people)
            found[board["dataset"], line["name"]] = drawn_by_scikit(people, board["seed"])
    return found


def test_every_number_of_a_dataset_is_that_of_scikit_learn(world: tuple[Path, dict[str, Any]], drawn: Drawn) -> None:
    for board in world[1]["boards"].values():
        place = board["dataset"]
        for line in board["lines"]:
            for metric in METRICS:
                same(line["metrics"][metric], drawn[place, line["name"]][metric])
        assert {line["name"] for line in board["lines"] if line["kind"] == "model"} == set(MODELS)
        floors = {*board["floors"], *(one["name"] for one in board["floors_missing"])}
        assert {"dummy", "pixels", "device+protocol"} <= floors
        assert set(board["to_reference"]) == set(MODELS) - {"volumes/linear"}
        assert set(board["slices"]) == {"dinov2@centre/linear"}
        pairs = [(name, "volumes/linear", of) for name, of in board["to_reference"].items()]
        pairs += [(name, "dinov2@2/linear", of) for name, of in board["slices"].items()]
        for name, other, of in pairs:
            for metric in METRICS:
                same(of[metric], drawn[place, name][metric] - drawn[place, other][metric])
        told = {name: of["macro_auroc"]["p"] for name, of in board["to_reference"].items() if "p" in of["macro_auroc"]}
        assert {n: board["to_reference"][n]["macro_auroc"]["holm"] for n in told} == adjust_holm(told)
        assert bool(told) == (place == "here"), "few people have no p"


def test_every_number_over_datasets_is_that_of_scikit_learn(world: tuple[Path, dict[str, Any]], drawn: Drawn) -> None:
    record = world[1]
    assert set(record["over_datasets"]["lines"]) == set(MODELS) - {"volumes/linear"}
    for name, of in record["over_datasets"]["lines"].items():
        for metric in METRICS:
            apart = [drawn[one, name][metric] - drawn[one, "volumes/linear"][metric] for one in ("here", "there")]
            assert of[metric]["datasets"] == ["here", "there"]
            same(of[metric]["these"], np.mean(apart, axis=0))
    ranks = pd.DataFrame(
        {place: {name: -drawn[place, name]["macro_auroc"][0] for name in MODELS} for place in ("here", "there")}
    ).rank()
    told = {f"{name}/linear": rank for name, rank in record["ranks"]["linear"]["ranks"].items()}
    assert told == pytest.approx(ranks.mean(axis=1).to_dict())


def test_transport_is_what_the_runs_say_of_the_other_place(world: tuple[Path, dict[str, Any]]) -> None:
    folder, record = world
    there = [one for one in record["transport"] if one["metrics"]]
    assert len(there) == 2 * len(VARIANTS)
    for one in there:
        home = one["home"].partition("/")[0]
        cell = next(c for c in record["cells"] if (c["dataset"], c["encoder"]) == (home, one["variant"]))
        table = pd.read_parquet(folder / "plan-benchmark" / "runs" / home / cell["run"] / "predictions.parquet")
        (split,) = {name for name in table["split"].unique() if name.startswith("external")}
        people = people_of(folder, home, cell["run"], "linear", split)
        assert one["participants"] == len(people) == 40
        for metric in METRICS:
            own = by_scikit(people_of(folder, home, cell["run"], "linear"))[metric]
            assert one["metrics"][metric]["value"] == pytest.approx(by_scikit(people)[metric], abs=1e-9)
            assert one["gap"][metric]["value"] == pytest.approx(by_scikit(people)[metric] - own, abs=1e-9)


def test_page_csv_markdown_and_latex_show_the_record(world: tuple[Path, dict[str, Any]]) -> None:
    folder, record = world
    out = folder / "first"
    page, text = ((out / name).read_text() for name in ("benchmark.html", "benchmark.md"))
    latex = (out / "benchmark.tex").read_text()
    assert json.loads((out / "benchmark.json").read_text()) == record
    read = read_typed(BenchmarkRecord, out / "benchmark.json")
    assert as_json(read) == record
    for tables in make_tables(read).values():
        for table in tables:
            assert f'id="{table.anchor}"' in page
            for row in table.rows:
                for cell in row:
                    shown = cell_text(cell, signed=table.signed)
                    assert " ".join(shown.split()).replace("|", "\\|") in text
                    if not isinstance(cell, str) and cell.value is not None:
                        assert shown.split()[0] in page
    lines = pd.read_csv(out / "benchmark.csv")
    for board in record["boards"].values():
        for line in board["lines"]:
            chosen = (lines["dataset"] == board["dataset"]) & (lines["name"] == line["name"])
            value = lines[chosen & (lines["metric"] == "macro_auroc")]["value"].item()
            assert value == pytest.approx(line["metrics"]["macro_auroc"]["value"])
    assert latex.count(r"\begin{longtable}") == sum(map(len, make_tables(read).values()))
    assert not re.search(r"(?<!\\)[%&_#]", re.sub(r"^%.*| & |p\{0\.12.*", "", latex, flags=re.MULTILINE))
    assert "://" not in page
    assert "SYNTHETIC PHANTOM" in page
    assert "RANDOM WEIGHTS" in page


def test_a_gap_is_named_in_every_table(world: tuple[Path, dict[str, Any]]) -> None:
    folder, record = world
    assert {(gap["dataset"], gap["variant"]) for gap in record["gaps"]} == {("here", "nofile"), ("there", "nofile")}
    assert all("not_here.pth" in gap["reason"] for gap in record["gaps"])
    page = (folder / "first" / "benchmark.html").read_text().replace("<wbr>", "")  # where a long name may wrap
    assert len(re.findall("not[_ ]here.pth: the file of its weights is not there", page)) == 4


def test_nothing_is_made_twice_and_a_change_makes_only_what_it_touches(world: tuple[Path, dict[str, Any]]) -> None:
    folder, record = world
    out = folder / "plan-benchmark"
    runs = {path.parent.name for path in out.glob("runs/*/*/run.json")}
    stores = {path: path.stat().st_mtime_ns for path in out.glob("stores/*/*/pooled/**/*") if path.is_file()}
    said: list[str] = []
    again = run_plan(folder, said)
    assert without_when(again) == without_when(record)
    assert sum("made before" in line for line in said) == 2 * len(VARIANTS)
    (folder / "plan.yaml").write_text(
        PLAN.replace("[linear]", "[linear, dummy]").replace("slices: [centre, 2]", "slices: 2")
    )
    try:
        changed = run_plan(folder)
    finally:
        (folder / "plan.yaml").write_text(PLAN)
    new = {path.parent.name for path in out.glob("runs/*/*/run.json")} - runs
    cells = {cell["run"]: (cell["encoder"], cell["head"]) for cell in changed["cells"]}
    assert sorted(cells[run] for run in new) == sorted([(one, "dummy") for one in ("dinov2", "volumes")] * 2)
    assert {path: path.stat().st_mtime_ns for path in stores} == stores


def test_each_cell_looks_at_test_once(world: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = world
    ledger = folder / "plan-benchmark" / "runs" / "there" / "test_ledger.jsonl"
    before = len(ledger.read_text().splitlines())
    (folder / "plan.yaml").write_text(f"{PLAN}judge: test\n")
    try:
        judged, again = run_plan(folder), run_plan(folder)
    finally:
        (folder / "plan.yaml").write_text(PLAN)
    assert [board["split"] for board in judged["boards"].values()] == [OUT_OF_FOLD, "test"]
    assert len(ledger.read_text().splitlines()) == before + len(VARIANTS)
    assert without_when(again) == without_when(judged)


def test_what_cannot_be_is_said_before_anything_is_encoded(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = world
    for old, new, said in (
        ("bucket: there,", "bucket: nowhere,", "dataset there: "),
        ("bucket: there,", "bucket: there, layout: gamma,", "dataset there: "),
        ("[healthy-vs-rest], cross_validate: 2", "[glaucoma], cross_validate: 2", "glaucoma"),
    ):
        path = folder / "wrong.yaml"
        path.write_text(PLAN.replace(old, new))
        with pytest.raises(OctProbeError, match=re.escape(said)):
            benchmark(BenchmarkOptions(plan=path, out=tmp_path / "out", device="cpu"), tell=lambda _: None)
        assert not (tmp_path / "out" / "stores").exists()


def test_a_dry_run_counts_what_is_left_and_writes_no_store_and_no_run(
    world: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, record = world
    fresh = run_plan(folder, out=tmp_path / "dry", dry_run=True)
    assert [path.name for path in (tmp_path / "dry").iterdir()] == ["samples"]
    assert (fresh["dry_run"], fresh["cells"], fresh["runs_there"]) == (True, 2 * len(VARIANTS), 0)
    assert fresh["volumes"] == {"here": 80, "there": 80}
    assert fresh["gaps"] == record["gaps"]
    hours = 0.0
    for line in fresh["cost"]:
        assert line["missing"] == line["volumes"] == 80
        assert line["usd_per_1000"] == pytest.approx(2.0 * 1000 * (line["read_s"] + line["encode_s"]) / 3600)
        hours += 80 * line["encode_s"] / 3600
    for dataset in ("here", "there"):
        hours += 80 * max(line["read_s"] for line in fresh["cost"] if line["dataset"] == dataset) / 3600
    assert fresh["hours"] == pytest.approx(hours)
    assert "cells: 6; runs that lie there already, of this plan or an earlier one: 0" in fresh["said"]
    made = run_plan(folder, dry_run=True)
    assert {line["missing"] for line in made["cost"]} == {0}
    assert made["hours"] == 0
    assert made["runs_there"] >= made["cells"] == 2 * len(VARIANTS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_cells_on_two_ray_workers_are_those_of_one_process(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs octprobe[ray]")
    folder, record = world
    for part in ("stores", "samples"):
        shutil.copytree(folder / "plan-benchmark" / part, tmp_path / "ray" / part)
    said: list[str] = []
    spread = run_plan(folder, said, out=tmp_path / "ray", ray=True)
    assert "ray: 6 cells" in said
    assert sum("made before" in line for line in said) == 2 * len(VARIANTS)
    assert without_when(spread) == without_when(record)


@pytest.mark.long
def test_a_killed_benchmark_ends_with_the_same_record(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 2) == []
