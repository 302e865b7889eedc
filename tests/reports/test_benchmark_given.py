"""Runs of finetune in a benchmark: their line, its difference to the frozen encoder, and what may not stand there."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_world import make_buckets, run_plan
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from classify.comparing.cells import Cell
from classify.judging.bootstrap import draw_replicates
from classify.run.folder import load_run
from classify.run.typed_record import read_typed
from embeddings_store.errors import UsageError
from extract.encoder_options import EncoderChoice
from finetune.options import FinetuneOptions
from finetune.recipe.load import load_config
from finetune.train import finetune
from reports.benchmark.cells import Made
from reports.benchmark.given import given_cells, open_given
from reports.benchmark.look import Gap
from reports.benchmark.options import BenchmarkOptions
from reports.benchmark.plan import Plan, read_plan
from reports.benchmark.record import BenchmarkRecord
from reports.benchmark.results import make_boards
from reports.benchmark.run import benchmark
from reports.benchmark.tables import cell_text, make_tables

NAME = "tuned"
PLAN = """
datasets:
  here:
    {bucket: here, participants: here/participants.tsv, tasks: [healthy-vs-rest, medicated-vs-not], runs: [runs/tuned]}
encoders:
  begun: {family: "random:tiny", image_size: [4, 32, 32]}
  larger: {family: "random:tiny", image_size: [8, 32, 32]}
heads: [linear]
reference: larger
replicates: 40
"""
REPLICATES = 40


def tune(folder: Path, name: str) -> Path:
    """Fine-tune on the bucket of the folder, for two epochs of the head, into runs/NAME."""
    choice = EncoderChoice(encoder="random:tiny", image_size=(4, 32, 32))
    options = FinetuneOptions(
        **choice.arguments(), bucket=str(folder / "here"), participants=folder / "here" / "participants.tsv",
        task="healthy-vs-rest", config=load_config(None, changes=(), epochs=2), device="cpu", replicates=20,
        runs=folder / f"made-{name}", stages=("head",),
    )  # fmt: skip
    done = finetune(options, now=datetime(2026, 11, 22, tzinfo=UTC), tell=lambda _: None)
    assert done is not None
    return Path(shutil.move(done.folder, folder / "runs" / name))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("given")
    make_buckets(folder, 24, ("here",))
    (folder / "runs").mkdir()
    tune(folder, NAME)
    (folder / "plan.yaml").write_text(PLAN)
    return folder, run_plan(folder)


def run_of(record: dict[str, Any], encoder: str) -> str:
    asked = (encoder, "healthy-vs-rest")
    (run,) = (str(cell["run"]) for cell in record["cells"] if (cell["encoder"], cell["task"]) == asked)
    return run


def people_of(run: Path, model: str) -> pd.DataFrame:
    table = pd.read_parquet(run / "predictions.parquet")
    chosen = (table["model"] == model) & (table["level"] == "participant") & (table["split"] == "val")
    return table[chosen].sort_values("unit").reset_index(drop=True)


def test_a_fine_tuned_run_stands_next_to_its_frozen_encoder_as_scikit_learn_has_it(
    world: tuple[Path, dict[str, Any]],
) -> None:
    folder, record = world
    assert list(record["boards"]) == ["here/healthy-vs-rest", "here/medicated-vs-not"]
    board, other = record["boards"].values()
    assert (other["began_with"], {line["kind"] for line in other["lines"]} >= {"model"}) == ({}, True)
    assert record["over_datasets"]["boards"] == {"here": "here/healthy-vs-rest"}
    name = f"fine-tuned/{NAME}"
    out = folder / "plan-benchmark"
    assert len(record["cells"]) == 2 * 2 + 1
    frozen_run = run_of(record, "begun")
    tuned = people_of(folder / "runs" / NAME, "finetune")
    frozen = people_of(out / "runs" / "here" / frozen_run, "linear")
    assert tuned["unit"].tolist() == frozen["unit"].tolist()
    counts = draw_replicates(tuned["participant"].to_numpy(str), replicates=REPLICATES, seed=board["seed"])
    assert counts.participant.tolist() == tuned["participant"].tolist()
    label = tuned["label"].to_numpy()
    for metric, by_scikit in (("macro_auroc", roc_auc_score), ("balanced_accuracy", balanced_accuracy_score)):
        apart, alone = [], []
        for draw in counts.counts.T:
            kept = draw > 0
            if len(set(label[kept])) < 2:
                continue
            scores = []
            for people in (tuned, frozen):
                score = (people["logit_1"] - people["logit_0"]).to_numpy()
                said = score if metric == "macro_auroc" else (score > 0).astype(int)
                scores.append(by_scikit(label[kept], said[kept], sample_weight=draw[kept]))
            alone.append(scores[0])
            apart.append(scores[0] - scores[1])
        line = next(one for one in board["lines"] if one["name"] == name)["metrics"][metric]
        for measured, drawn in ((line, alone), (board["fine_tuned"][name][metric], apart)):
            assert measured["value"] == pytest.approx(drawn[0], abs=1e-9)
            assert (measured["low"], measured["high"]) == pytest.approx(tuple(np.percentile(drawn[1:], [2.5, 97.5])))
    assert board["began_with"] == {name: "begun/linear"}
    assert record["gaps"] == []
    assert any(name in note and "too optimistic" in note for note in record["notes"])
    assert {"dummy", "pixels"} <= set(board["floors"]), "its own floors are those of the frozen ones, once"
    said = {one["name"]: one["weights_sha256"] for one in record["sources"] if one["kind"] == "encoder"}
    assert said[name] == said["begun"] != said["larger"]
    rows = pd.read_csv(out / "benchmark.csv")
    row = rows[(rows["name"] == name) & (rows["metric"] == "macro_auroc")].iloc[0]
    assert row["reference"] == "begun/linear"
    assert row["minus_reference_value"] == pytest.approx(board["fine_tuned"][name]["macro_auroc"]["value"])
    for file in ("benchmark.html", "benchmark.md", "benchmark.tex"):
        text = (out / file).read_text().replace("\\", "")
        assert "Fine-tuned against frozen: here/healthy-vs-rest" in text
        assert f"begun/linear{' | ' if file.endswith('md') else ''}" in text


@pytest.fixture
def told(world: tuple[Path, dict[str, Any]]) -> tuple[Plan, Made, Cell]:
    """The plan, the frozen cell, and the fine-tuned one."""
    folder, record = world
    frozen = load_run(folder / "plan-benchmark" / "runs" / "here" / run_of(record, "begun"))
    plan = read_plan(folder / "plan.yaml")
    return (
        plan, Made("here", "healthy-vs-rest", "begun", "linear", "", Cell("begun/linear", "", frozen, reused=True)),
        open_given(plan)["here"][0],
    )  # fmt: skip


def with_cohort(cell: Cell, cohort: pd.DataFrame) -> Cell:
    return replace(cell, run=replace(cell.run, cohort=cohort.reset_index(drop=True)))


def test_a_run_of_other_people_or_another_question_is_a_named_gap(told: tuple[Plan, Made, Cell]) -> None:
    plan, frozen, tuned = told
    cohort, record = tuned.run.cohort, tuned.run.record
    held = cohort[cohort["split"] == "val"]
    first = held["participant"] == held["participant"].iloc[0]
    unknown = held[first].assign(participant="9999", volume=[f"{n:032x}" for n in range(first.sum())])
    task = replace(record, asked=replace(record.asked, task="insulin-vs-rest"))
    crossed = replace(record, fitted=replace(record.fitted, cross_validation={"folds": 5}))
    cases = [
        ("stand in another split", with_cohort(tuned, cohort.assign(split="train"))),
        ("another number, label", with_cohort(tuned, cohort.assign(label=1 - cohort["label"]))),
        ("paired by number alone", with_cohort(tuned, cohort.assign(volume=[f"{n:032x}" for n in range(len(cohort))]))),
        (f"0 of its {len(held) - first.sum()} volumes of val", with_cohort(tuned, cohort.drop(held[first].index))),
        (f"{first.sum()} of its {len(held) + first.sum()}", with_cohort(tuned, pd.concat([cohort, unknown]))),
        ("its task is insulin-vs-rest", replace(tuned, run=replace(tuned.run, record=task))),
        ("cross-validated", replace(tuned, run=replace(tuned.run, record=crossed))),
    ]
    for said, cell in cases:
        (gap,) = given_cells(plan, {"here": [cell]}, [frozen])
        assert isinstance(gap, Gap), said
        assert said in gap.reason
        assert (gap.dataset, gap.variant, gap.head) == ("here", "fine-tuned", NAME)
    (gap,) = given_cells(replace(plan, judge="test"), {"here": [tuned]}, [frozen])
    assert isinstance(gap, Gap)
    assert "finetune evaluate --split test" in gap.reason
    assert [type(one) for one in given_cells(plan, {"here": [tuned]}, [frozen])] == [Made]


def test_a_folder_that_is_no_run_of_finetune_stops_before_anything_is_listed(
    world: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, record = world
    runs = folder / "runs"
    probe = run_of(record, "begun")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "run.json").write_text("{")
    shutil.copytree(runs / NAME, runs / "more" / NAME)
    text = PLAN.replace("bucket: here", "bucket: nowhere")
    for new, said in (
        ("[nowhere]", "expected the folder of a finished run"),
        ("[runs]", "expected the folder of a finished run"),
        ("[runs/damaged]", "dataset here: runs: damaged/run.json cannot be read"),
        (f"[plan-benchmark/runs/here/{probe}]", "expected a run of finetune train, got one of the head linear"),
        (f"[runs/{NAME}, runs/more/{NAME}]", "two folders have the same name"),
    ):
        path = folder / "wrong.yaml"
        path.write_text(text.replace("[runs/tuned]", new))
        with pytest.raises(UsageError) as raised:
            benchmark(BenchmarkOptions(plan=path, out=tmp_path / "out", device="cpu"), tell=lambda _: None)
        assert said in str(raised.value)
        assert not (tmp_path / "out").exists()


def test_a_run_whose_encoder_has_no_cell_is_held_against_nothing_and_says_why(
    told: tuple[Plan, Made, Cell], world: tuple[Path, dict[str, Any]]
) -> None:
    plan, frozen, tuned = told
    space = {**frozen.cell.run.record.asked.embedding_space, "image_size": [8, 32, 32]}
    asked = replace(frozen.cell.run.record.asked, embedding_space=space)
    other = replace(frozen.cell.run, record=replace(frozen.cell.run.record, asked=asked))
    (own,) = given_cells(plan, {"here": [tuned]}, [frozen])
    boards, _ = make_boards(plan, [replace(frozen, cell=replace(frozen.cell, run=other)), own], None)
    (board,) = boards.values()
    assert board.fine_tuned == {}
    assert board.began_with == {f"fine-tuned/{NAME}": None}
    whole = read_typed(BenchmarkRecord, world[0] / "plan-benchmark" / "benchmark.json")
    (table,) = make_tables(replace(whole, boards=boards))["fine_tuned"]
    assert cell_text(table.rows[0][2], signed=True).startswith("absent: no cell here is of the weights")
