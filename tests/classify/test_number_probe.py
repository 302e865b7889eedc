"""A number from the command to the run record, and back: signal, null, refusals, evaluate, predict, compare, curves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study, pictured
from number_study import TARGET, number_of_people, write_labels
from sklearn import metrics as peer

from classify.compare import compare
from classify.comparing.study_tables import curve_table, leaderboard_table, prediction_lines
from classify.errors import CohortError, RunFolderError
from classify.evaluate import EvaluateOptions, evaluate
from classify.judge_baselines import judge_baselines
from classify.learning_curve import learning_curve
from classify.options import ProbeOptions
from classify.predict import predict
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.record import RunRecord
from classify.run.summary import headline, metric_table, print_baselines
from classify.run_options import BaselineOptions, PredictOptions
from classify.study_options import CompareOptions, CurveOptions
from embeddings_store.errors import UsageError
from finetune.options import TrainingOptions
from finetune.parallel.processes import OneProcess
from finetune.run.prepared import prepare
from reports.headline import make_headline, number
from reports.runs import FinishedRun, read_runs
from reports.validity import validity_tables

REPLICATES = 60
EFFECT = 10.0


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(160, seed=1)


@pytest.fixture(scope="module")
def labels(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(study, tmp_path_factory.mktemp("labels"), number_of_people(study, effect=EFFECT))


def ask(study: Study, labels: Path, runs: Path, **more: object) -> Probed:
    asked = {"model": "linear", "replicates": REPLICATES, "jobs": 1} | more
    options = ProbeOptions(store="x", labels=labels, target=TARGET, runs=runs, **asked)  # type: ignore[arg-type]
    return probe(options, read=lambda *_: study.stored, tell=lambda _: None)


@pytest.fixture(scope="module")
def run(study: Study, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    return ask(study, labels, tmp_path_factory.mktemp("runs"), seeds=2, robustness=True)


def test_a_planted_number_is_found_and_the_record_says_so_of_published_predictions(run: Probed) -> None:
    again = load_run(run.folder)
    assert again.record.to_dict() == json.loads((run.folder / "run.json").read_text())
    table, frame = again.record.judged.metrics["participant"]["val"], again.predictions
    assert table["r2"].low > 0.4 and table["mean_absolute_error"].high < 4
    for name in ("linear", "age", "site", "age+site", "dummy", "embedding+age+site"):
        part = frame[(frame["model"] == name) & (frame["level"] == "participant")]
        own = table if name == "linear" else again.record.judged.baselines[name]["val"]
        assert own["r2"].value == pytest.approx(peer.r2_score(part["label"], part["probability_0"]), abs=1e-9)
        wanted = peer.mean_absolute_error(part["label"], part["probability_0"])
        assert own["mean_absolute_error"].value == pytest.approx(wanted, abs=1e-9)
    judged = again.record.judged
    assert judged.confusion == judged.contrasts["val"] == judged.decision_curves["val"] == {}
    assert judged.difference_to_age_site["r2"].low > 0 > judged.difference_to_age_site["mean_absolute_error"].high
    assert judged.permutation["val"]["p_values"]["r2"].value < 0.01
    assert {line["by"] for line in judged.subgroups["val"]} >= {"site", "device"} and judged.subgroups["val"][0]["r2"]
    assert again.record.cohort.class_weights == {} and "per_class" not in again.record.cohort.splits["train"]
    assert (again.record.asked.classes, again.record.asked.task_definition["kind"]) == ([], "number")


def test_calibration_search_seeds_and_places_are_told_in_their_form_for_numbers(run: Probed) -> None:
    fitted = run.record.fitted
    assert fitted.calibration is not None and fitted.search is not None and fitted.seed_sensitivity is not None
    level = fitted.calibration["levels"]["participant"]
    assert fitted.calibration["method"] == "line" and level["interval"]["covered"].value > 0.85
    tables = {table.anchor: table for table in validity_tables(FinishedRun(load_run(run.folder)))}
    shown = {row[0]: row[1] for row in tables["calibration"].rows}["participant"]
    assert shown == number(level["before"]["root_mean_squared_error"])
    assert set(level["after"]) == set(run.record.judged.metrics["participant"]["val"])
    assert fitted.search["metric"] == "r2" and "squared error" in fitted.search["taken"]
    assert set(fitted.seed_sensitivity["metrics"]) == {"r2", "mean_absolute_error"}
    sites = (fitted.robustness or {})["site"]
    assert {"without", "with", "beyond_chance"} <= set(sites[0]) and "r2" in sites[0]["beyond_chance"]
    said = "\n".join(headline(run.record))
    assert "r2: difference to age+site" in said and "mean_absolute_error: hardest baseline" in said
    assert "below each of" in said and "better than each of" in said
    assert [column.header for column in metric_table(run.record).columns][1:] == [
        "r2", "mean absolute error", "spearman",
    ]  # fmt: skip


def test_a_number_that_nobody_knows_stays_at_chance_through_the_search(study: Study, tmp_path: Path) -> None:
    number = number_of_people(study, effect=0.0, seed=7)
    null = ask(
        study,
        write_labels(study, tmp_path, number),
        tmp_path / "runs",
        trials=3,
        layer="last",
    )
    found = null.record.judged
    assert -0.2 < found.metrics["participant"]["val"]["r2"].value < 0.1  # shrunk to the mean, by search or calibrator
    assert found.permutation["val"]["p_values"]["r2"].value > 0.01  # one cohort: below 0.05 in one of 20
    assert found.difference_to_age_site["r2"].low < 0.1


def test_the_whole_search_is_judged_on_outer_folds_of_numbers(study: Study, labels: Path, tmp_path: Path) -> None:
    asked = {"trials": 1, "nested": True, "folds": 2, "layer": "last", "pools": ("mean",), "aggregate": "mean-logits"}
    made = ask(study, labels, tmp_path, **asked)
    outer = (made.record.fitted.search or {})["nested"]
    assert outer["metrics"].keys() == {"r2", "mean_absolute_error"} and outer["metrics"]["r2"].low > 0.3


def test_the_search_is_the_same_with_workers_and_finds_the_signal(study: Study, labels: Path, tmp_path: Path) -> None:
    asked = {"trials": 4, "model": "linear", "layer": "last", "pools": ("mean",), "aggregate": "learned-weights"}
    alone, many = (ask(study, labels, tmp_path / f"{jobs}", jobs=jobs, **asked) for jobs in (1, 2))
    assert alone.record.judged.metrics == many.record.judged.metrics
    assert alone.record.judged.metrics["participant"]["val"]["r2"].value > 0.5
    weights = alone.record.fitted.features["aggregation_learned"]["weights"]
    assert len(weights) == 2 and all(0.1 < weight < 10 for weight in weights.values())


def test_pixels_and_brightness_are_baselines_of_numbers_too(study: Study, tmp_path: Path) -> None:
    seen = pictured(study, effect=25.0)
    step = study.people.set_index("participant_id")["study_group"]
    number = step.map({name: 10.0 * place for place, name in enumerate(sorted(set(step)))}) + 0.01 * np.arange(
        len(step)
    )
    path = write_labels(seen, tmp_path, number)
    options = BaselineOptions(store="x", labels=path, target=TARGET, replicates=REPLICATES)
    found = judge_baselines(options, read=lambda *_: seen.stored, tell=lambda _: None)
    assert found["baselines"]["pixels"]["r2"].value is not None and found["classes"] == []
    assert found["differences_to_age_site"]["pixels"].keys() == {"r2", "mean_absolute_error"}
    print_baselines(found)


def test_evaluate_looks_at_test_once_and_in_numbers(run: Probed, study: Study, labels: Path) -> None:
    options = EvaluateOptions(
        run=run.folder, split="test", runs=run.folder.parent, store="x", labels=labels, replicates=REPLICATES,
    )  # fmt: skip
    looked = evaluate(options, read=lambda *_: study.stored, tell=lambda _: None)
    assert looked.looks == 1 and looked.record.judged.metrics["participant"]["test"]["r2"].low > 0.3
    entry = looked.record.evaluations[-1]
    assert entry["confusion"] == {} and "r2" in entry["uncalibrated"]["participant"]
    assert entry["probabilities"]["participant"]["interval"]["covered"].value > 0.8
    assert load_run(run.folder).record.evaluations[-1]["look"] == 1


def answer(run: Probed, study: Study, out: Path, **more: object) -> pd.DataFrame:
    options = PredictOptions(run=run.folder, runs=run.folder.parent, store="x", out=out, **more)  # type: ignore[arg-type]
    found = predict(options, read=lambda *_: study.stored)
    assert any("intervals, from held-out residuals" in line for line in prediction_lines(found.summary))
    return found.table


def test_predict_gives_a_value_an_interval_and_novelty(run: Probed, tmp_path: Path) -> None:
    new = make_study(40, seed=9)
    number = number_of_people(new, effect=EFFECT)
    table = answer(run, new, tmp_path / "out.csv", answer_unknown=True)
    people = table[(table["level"] == "participant") & table["value"].notna()].set_index("participant")
    truth = number[people.index]
    inside = (people["low"] <= truth) & (truth <= people["high"])
    assert inside.mean() > 0.8 and np.corrcoef(people["value"], truth)[0, 1] > 0.7
    assert "predicted" not in table and "confidence" not in table and "ood_percentile" in table
    volumes = table[table["level"] == "volume"]
    volumes = volumes[volumes["value"].notna()]
    known = load_run(run.folder).cohort.set_index("volume")["label"]
    assert (volumes["nearest_1_value"].to_numpy() == known[volumes["nearest_1_volume"]].to_numpy()).all()
    assert pd.read_csv(tmp_path / "out.csv")["value"].notna().sum() == table["value"].notna().sum()


def test_predict_abstains_beyond_the_numbers_of_train(run: Probed, study: Study, tmp_path: Path) -> None:
    far = study.stored.pooled.copy()
    far[:, 1, :, 0] += 60
    table = answer(run, Study(study.people, replace(study.stored, pooled=far)), tmp_path / "far.parquet")
    people = table[(table["level"] == "participant") & table["value"].notna()]
    assert people["abstain"].all() and people["reason"].str.contains("beyond all of train, which held").all()


def test_predict_refuses_what_numbers_do_not_have(run: Probed, study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--prevalence: the run predicts a number"):
        answer(run, study, tmp_path / "a.csv", prevalence="a=0.5,b=0.5")
    with pytest.raises(UsageError, match=r"--abstain-below 0\.7: the run predicts a number"):
        answer(run, study, tmp_path / "a.csv", abstain_below=0.7)


def test_compare_ranks_numbers_by_r2_and_tells_who_is_worse(study: Study, labels: Path, tmp_path: Path) -> None:
    options = CompareOptions(
        store=("a=x",), models=("dummy", "linear", "knn"), labels=labels, target=TARGET, runs=tmp_path,
        replicates=REPLICATES,
    )  # fmt: skip
    record = compare(options, read=lambda *_: study.stored, tell=lambda _: None).record
    (board,) = record.tasks.values()
    assert board.ranked_by == "r2" and board.best == board.lines[0].name
    lines = {line.name: line for line in board.lines}
    assert lines["a/dummy"].difference_to_best["r2"].simultaneous["high"] < 0
    assert lines["a/dummy"].difference_to_best["mean_absolute_error"].simultaneous["low"] > 0
    assert board.best_of_n.corrected["r2"].value > 0.3
    assert "r2" in [column.header for column in leaderboard_table("t", board).columns]


def test_a_learning_curve_of_numbers_rises_and_says_where_too_few_are_left(
    study: Study, labels: Path, tmp_path: Path
) -> None:
    options = CurveOptions(
        store="x", model="linear", labels=labels, target=TARGET, runs=tmp_path, fractions=(0.05, 0.3, 1.0), repeats=2,
        replicates=REPLICATES,
    )  # fmt: skip
    record = learning_curve(options, read=lambda *_: study.stored, tell=lambda _: None).record
    few, some, whole = record.points
    assert "it takes 10 to learn one" in few["absent"] and some["per_class"] == {}
    assert whole["r2"].value > 0.5 and some["difference_to_all"]["r2"].value < 0.3
    assert "r2 to all of train" in [column.header for column in curve_table(record).columns]


def test_a_random_twin_is_fitted_to_the_number_as_well(study: Study, labels: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=study.stored.pooled.shape).astype(np.float32)
    space = replace(study.stored.space, weights_sha256="1" * 64)
    stores = {"x": study.stored, "twin": replace(study.stored, pooled=noise, space=space)}
    options = ProbeOptions(
        model="linear",
        store="x",
        random_twin="twin",
        labels=labels,
        target=TARGET,
        runs=tmp_path,
        replicates=REPLICATES,
    )
    made = probe(options, read=lambda address, *_: stores[address], tell=lambda _: None)
    assert made.record.rivals.difference_to_random_twin["r2"].low > 0


def test_eyes_and_scans_have_numbers_of_their_own(study: Study, tmp_path: Path) -> None:
    index = study.stored.index
    eyes = index[["participant", "eye"]].drop_duplicates().reset_index(drop=True)
    split = study.people.set_index("participant_id")["recommended_split"]
    number = number_of_people(study, effect=EFFECT)
    table = eyes.assign(
        **{TARGET: number[eyes["participant"]].to_numpy() + np.where(eyes["eye"] == "L", 1.0, 0.0)},
        split=split[eyes["participant"]].to_numpy(),
    )
    path = tmp_path / "eyes.csv"
    table.to_csv(path, index=False)
    made = ask(study, path, tmp_path / "runs", level="eye")
    assert list(made.record.judged.metrics) == ["volume", "eye"]
    assert made.record.judged.metrics["eye"]["val"]["r2"].value > 0.3
    found = answer(made, study, tmp_path / "out.parquet")
    assert set(found["level"]) == {"volume", "eye"}


def refusal(study: Study, labels: Path, tmp_path: Path, **more: object) -> str:
    with pytest.raises((UsageError, CohortError)) as told:
        ask(study, labels, tmp_path / "runs", **more)
    assert not list((tmp_path / "runs").glob("2*")), "something half-written"
    return str(told.value)


Change = Callable[["pd.Series[float]"], "pd.Series[float] | pd.Series[str]"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "ordinal"}, "--model: ordinal predicts classes, and the target is a number"),
        ({"calibrate": "isotonic"}, "--calibrate isotonic: that is for probabilities of classes"),
        ({"prevalence": "a=0.5,b=0.5"}, "--prevalence: thickness is a number"),
        ({"folds": 200}, "--folds 200: train has 80 participants"),
        ({"classes": ("a", "b"), "kind": "number"}, "a number has no classes"),
        ({"model": "linear", "target": "thicknes"}, "thickness"),
    ],
)
def test_what_a_number_does_not_have_is_refused_by_name(
    more: dict[str, object], said: str, study: Study, labels: Path, tmp_path: Path
) -> None:
    if "target" in more:
        options = ProbeOptions(store="x", labels=labels, runs=tmp_path / "runs", **more)  # type: ignore[arg-type]
        with pytest.raises((UsageError, CohortError), match=said):
            probe(options, read=lambda *_: study.stored, tell=lambda _: None)
        return
    assert said in refusal(study, labels, tmp_path, **more)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda number: number.astype(str).replace(number.iloc[:80].astype(str).tolist(), "thick"), "thick"),
        (lambda number: number * 0 + 4.5, "train: thickness is 4.5 for everybody; there is nothing to learn"),
        (lambda number: number.iloc[:12], "it takes at least 10 to learn a number"),
    ],
)
def test_labels_that_are_no_use_are_refused(change: Change, said: str, study: Study, tmp_path: Path) -> None:
    path = write_labels(study, tmp_path, change(number_of_people(study, effect=EFFECT)))
    assert said in refusal(study, path, tmp_path, kind="number")


def test_a_record_without_classes_is_one_of_a_number_or_damaged(run: Probed, tmp_path: Path) -> None:
    raw = run.record.to_dict()
    raw["task_definition"] = {**raw["task_definition"], "kind": "nominal"}
    assert RunRecord.from_dict(raw, "r").asked.classes == []
    folder = tmp_path / "r"
    folder.mkdir()
    for path in run.folder.glob("*.parquet"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "run.json").write_text(json.dumps(raw))
    with pytest.raises(RunFolderError, match="classes: expected at least one, got none"):
        load_run(folder)


def test_finetune_refuses_a_number_before_it_opens_an_encoder(labels: Path, tmp_path: Path) -> None:
    options = TrainingOptions(bucket="x", labels=labels, target=TARGET, runs=tmp_path, encoder="random:tiny")
    with pytest.raises(UsageError, match="finetune: thickness is a number"), prepare(options, OneProcess()):
        pass


def test_of_too_few_people_with_a_number_the_page_claims_nothing(tmp_path: Path) -> None:
    few = make_study(32, seed=3)
    done = ask(few, write_labels(few, tmp_path, number_of_people(few, effect=EFFECT)), tmp_path / "runs")
    assert done.record.cohort.splits["val"]["participants"] < 10
    found = make_headline(read_runs(done.folder.parent))
    assert found.verdict == "too few"
    assert found.claim.startswith("Nothing can be claimed: there are too few validation participants for intervals")
    assert "a class" not in found.claim
