"""Comparing as a whole: cells are runs and are made once, val alone is read, and what cannot be compared is refused."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.compare import Compared, compare
from classify.comparing.board import ComparisonRecord, Line
from classify.comparing.leaderboard import count_worse
from classify.comparing.study_tables import leaderboard_lines, leaderboard_table
from classify.errors import CohortError, RunFolderError
from classify.judging.bootstrap import draw_replicates, measure, summarise
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.estimate import Estimate
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions
from classify.run.typed_record import as_json, read_typed
from classify.study_options import CompareOptions
from embeddings_store.errors import UsageError
from embeddings_store.schema import volume_id
from embeddings_store.snapshot import Snapshot
from reports.validity import comparison_tables

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
TASK = "healthy-vs-rest"


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(96, effect=1.5)


@pytest.fixture(scope="module")
def stores(study: Study) -> dict[str, Snapshot]:
    """An encoder that sees the disease, and one with random weights that does not."""
    blind = make_study(96, effect=0.0).stored
    other = replace(study.stored.space, weights_sha256="7" * 64)
    return {"good": study.stored, "random": replace(study.stored, pooled=blind.pooled, space=other)}


def run(
    study: Study,
    stores: Mapping[str, Snapshot],
    folder: Path,
    models: tuple[str, ...] = ("linear", "knn"),
    said: list[str] | None = None,
    **options: Any,
) -> Compared:
    asked = CompareOptions(
        store=tuple(f"{name}={name}" for name in stores),
        models=models,
        tasks=(TASK,),
        participants=study.write(folder),
        replicates=50,
        runs=folder / "runs",
    )
    heard = said if said is not None else []
    return compare(
        replace(asked, **options), clock=lambda: NOW, read=lambda address, *_: stores[address], tell=heard.append
    )


def line(record: ComparisonRecord, name: str, task: str = TASK) -> Line:
    return next(line for line in record.tasks[task].lines if line.name == name)


@pytest.fixture(scope="module")
def done(study: Study, stores: dict[str, Snapshot], tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return run(study, stores, tmp_path_factory.mktemp("done"), random_twin="random")


@pytest.fixture
def begun(done: Compared, tmp_path: Path) -> Path:
    """A folder whose runs hold the cells of ``done``."""
    shutil.copytree(done.folder.parent.parent, tmp_path / "runs", ignore=shutil.ignore_patterns("comparisons"))
    return tmp_path


def test_the_leaderboard_is_whole_and_lies_on_disk(done: Compared, stores: dict[str, Snapshot]) -> None:
    board = done.record.tasks[TASK]
    names = {one.name: one.kind for one in board.lines}
    models = {f"{store}/{model}" for store in stores for model in ("linear", "knn")}
    assert {name for name, kind in names.items() if kind == "model"} == models
    assert {name for name, kind in names.items() if kind == "together"} == {f"{name} +age+site" for name in models}
    assert {"dummy", "age", "site", "age+site"} <= set(names)
    assert len(names) == len(board.lines)
    assert board.best.startswith("good/")
    assert line(done.record, "good/linear").difference_to_random_twin["macro_auroc"].value > 0.2
    assert line(done.record, "random/linear").difference_to_random_twin is None
    assert line(done.record, "good/linear").seconds > 0
    assert json.loads((done.folder / "comparison.json").read_text()) == as_json(done.record)
    assert read_typed(ComparisonRecord, done.folder / "comparison.json") == done.record
    table = pd.read_csv(done.folder / "leaderboard.csv")
    assert table["name"].tolist() == [one.name for one in board.lines]
    best = table.set_index("name").loc[board.best]
    assert "too few" in str(best["balanced_accuracy/low"])
    assert done.folder.parent.name == "comparisons"
    assert [path.name for path in done.folder.parent.iterdir()] == [done.folder.name]


def test_a_difference_is_that_of_the_two_runs(done: Compared) -> None:
    folders = {entry.name: done.folder.parent.parent / entry.run for entry in done.record.runs}
    people = [
        pick_predictions(load_run(folders[name]).predictions, model="linear", level="participant", split="val")
        for name in ("good/linear", "random/linear")
    ]
    drawn = draw_replicates(people[0].participant, replicates=50, seed=0)
    values = [measure(part, drawn, ("healthy", "rest"))[1]["macro_auroc"] for part in people]
    found = line(done.record, "good/linear").difference_to_random_twin["macro_auroc"]
    expected = summarise(values[0] - values[1], "")
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def test_cells_are_made_once(done: Compared, begun: Path, study: Study, stores: dict[str, Snapshot]) -> None:
    said: list[str] = []
    again = run(study, stores, begun, ("linear", "dummy"), said=said)
    assert [entry.reused for entry in again.record.runs] == [True, False, True, False]
    cells = [text for text in said if text.startswith("[")]
    assert [text.partition(":")[0] for text in cells] == [
        f"[{number}/4] {store}/{model}, {TASK}"
        for number, (store, model) in enumerate(((s, m) for s in stores for m in ("linear", "dummy")), 1)
    ]
    assert [text.endswith("made before") for text in cells] == [True, False, True, False]
    assert line(again.record, "good/linear").metrics == line(done.record, "good/linear").metrics
    assert len([path for path in (begun / "runs").iterdir() if (path / "run.json").exists()]) == 6


@pytest.mark.parametrize("change", ["vectors", "table", "options"])
def test_a_cell_of_other_inputs_is_made_anew(
    begun: Path, study: Study, stores: dict[str, Snapshot], change: str
) -> None:
    only, people, options = {"good": stores["good"]}, study.people, {}
    if change == "vectors":
        only = {"good": replace(study.stored, pooled=study.stored.pooled + np.float32(1e-3))}
    if change == "table":
        people = people.assign(age=people["age"].iloc[::-1].to_numpy())
    if change == "options":
        options = {"replicates": 51}
    again = run(Study(people, study.stored), only, begun, ("linear",), **options)
    assert [entry.reused for entry in again.record.runs] == [False]


def test_an_interrupted_comparison_goes_on(study: Study, stores: dict[str, Snapshot], tmp_path: Path) -> None:
    def broken(address: str, *_: int) -> Snapshot:
        if address == "random":
            raise KeyboardInterrupt
        return stores[address]

    options = CompareOptions(
        store=tuple(f"{name}={name}" for name in stores), models=("dummy",), tasks=(TASK,), replicates=50,
        participants=study.write(tmp_path), runs=tmp_path / "runs",
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        compare(options, clock=lambda: NOW, read=broken, tell=lambda said: None)
    assert not (tmp_path / "runs" / "comparisons").exists()
    done = compare(options, clock=lambda: NOW, read=lambda address, *_: stores[address], tell=lambda said: None)
    assert [entry.reused for entry in done.record.runs] == [True, False]


def test_runs_stand_beside_cells_and_test_is_never_read(begun: Path, study: Study, stores: dict[str, Snapshot]) -> None:
    options = ProbeOptions(
        store="store", model="ordinal", task=TASK, participants=study.write(begun), replicates=20, runs=begun / "mine"
    )
    mine = probe(options, now=NOW, read=lambda *_: study.stored).folder
    only = {"good": stores["good"]}
    record = run(study, only, begun, ("linear",), run=(mine,)).record
    assert line(record, mine.name).kind == "model"
    table = pd.read_parquet(mine / "predictions.parquet")
    table[table["model"] == "ordinal"].assign(split="test", probability_0=1.0, probability_1=0.0).pipe(
        lambda test: pd.concat([table, test])
    ).to_parquet(mine / "predictions.parquet")
    again = run(study, only, begun, ("linear",), run=(mine,)).record
    assert again.tasks == record.tasks
    assert {board.split for board in again.tasks.values()} == {"val"}


def test_a_fine_tuned_run_stands_there_with_a_warning(begun: Path, study: Study) -> None:
    """finetune writes the same record; its parameters name the stages, and val chose its epoch."""
    made = next(path.parent for path in (begun / "runs").glob("*/run.json"))
    tuned = begun / "tuned"
    shutil.copytree(made, tuned)
    record = json.loads((tuned / "run.json").read_text())
    changed = {"model": "finetune", "parameters": {"stages": ["head", "last"]}, "seconds": {"fit": 12.5, "wall": 20.0}}
    (tuned / "run.json").write_text(json.dumps(record | changed))
    table = pd.read_parquet(tuned / "predictions.parquet")
    table.replace({"model": {record["model"]: "finetune"}}).to_parquet(tuned / "predictions.parquet")
    options = {"models": (), "tasks": (), "run": (made, tuned)}
    board = run(study, {}, begun, **options).record.tasks[TASK]
    found = next(one for one in board.lines if one.name == "tuned")
    assert found.seconds == 12.5
    assert found.note == "fine-tuned: val chose when its training stopped, so val is too optimistic"
    assert found.difference_to_best is None or found.difference_to_best["macro_auroc"].value == 0
    assert f"tuned: {found.note}" in leaderboard_lines(board)


def test_a_damaged_run_is_told_and_not_reused(begun: Path, study: Study, stores: dict[str, Snapshot]) -> None:
    for path in (begun / "runs").glob("*linear*/predictions.parquet"):
        path.write_bytes(b"")
    said: list[str] = []
    again = run(study, {"good": stores["good"]}, begun, ("linear",), said=said)
    assert [entry.reused for entry in again.record.runs] == [False]
    assert sum(text.startswith("not reused: run folder") for text in said) == 2


def test_cohorts_that_differ_are_said_and_only_common_people_used(
    begun: Path, study: Study, stores: dict[str, Snapshot]
) -> None:
    person = study.stored.index["participant"]
    val = study.people.loc[study.people["recommended_split"] == "val", "participant_id"]
    gone = person.isin(val.iloc[:3]).to_numpy()
    fewer = replace(
        stores["random"],
        index=stores["random"].index[~gone].reset_index(drop=True),
        pooled=stores["random"].pooled[~gone],
    )
    board = run(study, stores | {"random": fewer}, begun, ("linear",)).record.tasks[TASK]
    assert board.participants == 24 - 3
    assert [(one.names, one.val["participants"]) for one in board.cohorts] == [
        (["good/linear"], 24),
        (["random/linear"], 21),
    ]
    assert {one.name for one in board.lines if one.name.startswith("age (")} == {
        "age (good/linear's people)",
        "age (random/linear's people)",
    }
    assert any("the cohorts differ; only the 21 participants" in said for said in leaderboard_lines(board))


def test_a_train_that_differs_by_half_is_said_where_val_is_the_same(
    begun: Path, study: Study, stores: dict[str, Snapshot]
) -> None:
    train = study.people.loc[study.people["recommended_split"] == "train", "participant_id"]
    kept = ~study.stored.index["participant"].isin(train.iloc[:24]).to_numpy()
    index = stores["random"].index[kept].reset_index(drop=True)
    half = replace(stores["random"], index=index, pooled=stores["random"].pooled[kept])
    board = run(study, stores | {"random": half}, begun, ("linear",)).record.tasks[TASK]
    said = "random/linear was fitted on other people than good/linear: 24 and 48 participants of train, 24 in both"
    assert board.participants == 24
    assert any(said in told for told in leaderboard_lines(board))
    assert said in comparison_tables(begun / "runs", TASK)[0].caption


def test_page_csv_and_terminal_say_the_same_of_each_line(done: Compared) -> None:
    board = done.record.tasks[TASK]
    table = comparison_tables(done.folder.parent.parent, TASK)[0]
    saved = pd.read_csv(done.folder / "leaderboard.csv").set_index("name")
    columns = leaderboard_table(TASK, board).columns
    terminal = dict(zip(columns[0].cells, zip(columns[3].cells, columns[4].cells, strict=True), strict=True))
    for row in table.rows:
        name, apart, stands = str(row[0]), row[4], row[5]
        assert saved.loc[name, "standing"] == terminal[name][1] == stands
        if stands != "best" and isinstance(apart, Estimate) and apart.interval:
            assert terminal[name][0] == f"{apart.value:.2f} ({apart.low:.2f} to {apart.high:.2f})"
            wide = [f"difference_to_best/balanced_accuracy{side}" for side in ("", "/low", "/high")]
            expected = [apart.value, apart.low, apart.high]
            np.testing.assert_allclose(saved.loc[name, wide].astype(float), expected)
    corrected = board.best_of_n.corrected["balanced_accuracy"]
    assert saved.loc[board.best, "corrected/balanced_accuracy"] == pytest.approx(corrected.value)
    assert f"{corrected.value:.3f}" in table.caption
    assert any(f"{corrected.value:.2f}" in told for told in leaderboard_lines(board))
    assert count_worse(board) in table.caption
    assert count_worse(board) in leaderboard_lines(board)


def test_the_page_names_the_encoder_of_each_store(done: Compared) -> None:
    table = comparison_tables(done.folder.parent.parent, TASK)[1]
    assert [row[0] for row in table.rows] == sorted(done.record.encoders)
    assert table.heading == "Which encoder"


def test_people_known_by_number_alone_are_said(begun: Path, study: Study) -> None:
    other = make_study(96, effect=0.0, seed=5)
    index = other.stored.index.assign(
        participant=study.stored.index["participant"], site=study.stored.index["site"],
        volume=[volume_id("again/" + key) for key in study.stored.index["key"]],
    )  # fmt: skip
    rescanned = replace(other.stored, index=index)
    options = ProbeOptions(store="store", model="dummy", task=TASK, participants=study.write(begun), replicates=20)
    runs = tuple(
        probe(replace(options, runs=begun / name), now=NOW, read=lambda *_, held=held: held).folder
        for name, held in (("first", study.stored), ("second", rescanned))
    )
    heard: list[str] = []
    run(study, {}, begun, (), heard, run=runs, tasks=())
    assert any("96 participants have none of the volumes" in said and "by number alone" in said for said in heard)


def test_a_cell_that_cannot_be_made_is_absent(begun: Path, study: Study, stores: dict[str, Snapshot]) -> None:
    nobody = stores["random"]
    nobody = replace(nobody, index=nobody.index.assign(participant=[f"9{p[1:]}" for p in nobody.index["participant"]]))
    record = run(study, stores | {"random": nobody}, begun, ("linear",)).record
    assert [(cell.name, cell.task) for cell in record.absent] == [("random/linear", TASK)]
    assert "do the two belong together" in record.absent[0].reason
    assert record.tasks[TASK].best == "good/linear"
    with pytest.raises(CohortError, match="no cell could be made"):
        run(study, {"random": nobody}, begun, ("linear",))


def test_what_cannot_be_compared_is_refused(study: Study, stores: dict[str, Snapshot], tmp_path: Path) -> None:
    options = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(tmp_path),
        replicates=20,
        runs=tmp_path / "r",
        task="insulin-vs-rest",
    )
    other_task = probe(options, now=NOW, read=lambda *_: study.stored).folder
    with pytest.raises(UsageError, match="its task is insulin-vs-rest, this comparison is of healthy-vs-rest"):
        run(study, stores, tmp_path, run=(other_task,))
    people = study.people.assign(
        recommended_split=study.people["recommended_split"].map(
            {"train": "train", "val": "test", "test": "val"}  # as if somebody had dealt anew
        )
    )
    swapped = probe(
        replace(
            options, participants=Study(people, study.stored).write(tmp_path / "r"), task=TASK, resplit="dealt anew"
        ),
        now=NOW,
        read=lambda *_: study.stored,
    ).folder
    with pytest.raises(CohortError, match="48 participants stand in another split than in good/linear"):
        run(study, {"good": stores["good"]}, tmp_path, ("linear",), run=(swapped,))
    with pytest.raises(UsageError, match="--random-twin: expected the name of one --store"):
        run(study, stores, tmp_path, random_twin="twin")
    with pytest.raises(UsageError, match="--run: two folders have the same name"):
        run(study, {}, tmp_path, run=(other_task, other_task), tasks=())
    with pytest.raises(UsageError, match="nothing to compare"):
        run(study, {}, tmp_path)
    with pytest.raises(UsageError, match="--model: expected one of"):
        run(study, stores, tmp_path, ("oracle",))
    with pytest.raises(RunFolderError):
        run(study, {}, tmp_path, run=(tmp_path,))


def test_a_dummy_stands_beside_searched_heads(study: Study, stores: dict[str, Snapshot], tmp_path: Path) -> None:
    asked = CompareOptions(
        store="good=good", models=("dummy", "knn"), tasks=(TASK,), replicates=50, trials=2, jobs=1,
        participants=study.write(tmp_path), runs=tmp_path / "runs",
    )  # fmt: skip
    done = compare(asked, clock=lambda: NOW, read=lambda address, *_: stores[address], tell=lambda line: None)
    searched = {cell.name: load_run(tmp_path / "runs" / cell.run).record.fitted.search for cell in done.record.runs}
    assert searched["good/dummy"] is None
    assert searched["good/knn"]["trials"] == 2
