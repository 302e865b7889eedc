"""Everybody judged on folds: nothing inside a fold knows who is held out, and runs of other kinds stay apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.cohort.questions import Question
from classify.cohort.splits import OUT_OF_FOLD
from classify.cohort.tables import read_tables
from classify.compare import compare
from classify.errors import CohortError, LeakError
from classify.evaluate import evaluate
from classify.evaluating import cross_validation
from classify.evaluating.cross_validation import Asked, cross_validate, deal_outer
from classify.fitting.model import fit_model
from classify.fitting.source import FeatureSource, source_on
from classify.judging.metrics import all_metrics
from classify.judging.prevalence import state_prevalence
from classify.learning_curve import learning_curve
from classify.options import ProbeOptions
from classify.predict import predict
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.predictions import Predictions, judged_of, pick_predictions
from classify.run.record import read_record
from classify.run.summary import headline
from classify.run_options import EvaluateOptions, PredictOptions
from classify.search.search import Chosen, SearchPlan, choose_model
from classify.study_options import CompareOptions, CurveOptions
from embeddings_store.errors import UsageError

PEOPLE, FOLDS = 40, 3


def labels_of(study: Study, positives: int = 17, **columns: object) -> pd.DataFrame:
    """One line a participant: those of the higher study groups are cases, so that an effect is one on the label."""
    people = study.people.assign(step=study.people["study_group"].map(sorted(set(study.people["study_group"])).index))
    effect = study.stored.pooled[:, 1, 0, 0] - 20.0 * (study.stored.index["device"] == "heidelberg_spectralis")
    mean = effect.groupby(study.stored.index["participant"]).mean().rank(method="first")
    case = mean[people["participant_id"]].to_numpy() > len(people) - positives
    return pd.DataFrame({"participant": people["participant_id"], "dr": np.where(case, "yes", "no")}).assign(**columns)


def options(folder: Path, labels: pd.DataFrame, **given: object) -> ProbeOptions:
    labels.to_csv(folder / "labels.csv", index=False)
    words = {"model": "linear", "runs": folder / "runs", "replicates": 40, "cross_validate": FOLDS} | given
    return ProbeOptions(store="x", labels=folder / "labels.csv", target="dr", **words)  # type: ignore[arg-type]


def run(study: Study, folder: Path, labels: pd.DataFrame, said: list[str] | None = None, **given: object) -> Probed:
    tell: Callable[[str], None] = (said if said is not None else []).append
    return probe(options(folder, labels, **given), read=lambda *_: study.stored, tell=tell)


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(PEOPLE, effect=1.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crossed")


@pytest.fixture(scope="module")
def crossed(study: Study, place: Path) -> Probed:
    return run(study, place, labels_of(study, age=40 + np.arange(PEOPLE) % 7))


def test_everybody_is_predicted_once_and_judged_together(crossed: Probed, study: Study) -> None:
    record, found = crossed.record, load_run(crossed.folder)
    people = pick_predictions(found.predictions, model="linear", level="participant", split=OUT_OF_FOLD)
    assert sorted(people.unit) == sorted(study.people["participant_id"])
    assert set(found.predictions["split"]) == {OUT_OF_FOLD}
    values = all_metrics(people.label, people.scores, np.ones((PEOPLE, 1)), ["no", "yes"])
    assert record.judged.metrics["participant"][OUT_OF_FOLD]["macro_auroc"].value == values["macro_auroc"][0]
    assert values["macro_auroc"][0] > 0.9
    assert set(record.judged.metrics["participant"]) == {OUT_OF_FOLD}


def test_the_record_says_what_kind_of_run_it_is(crossed: Probed) -> None:
    record = read_record(crossed.folder)
    assert record == crossed.record
    assert record.is_crossed
    assert record.judged_split == OUT_OF_FOLD
    told = record.fitted.cross_validation or {}
    assert told["claim"].startswith("cross-validated, no test split")
    assert [line["fold"] for line in told["lines"]] == ["1", "2", "3"]
    assert sum(line["participants"] for line in told["lines"]) == PEOPLE
    assert record.cohort.splits[OUT_OF_FOLD]["participants"] == PEOPLE
    assert record.cohort.splits["test"]["participants"] == record.cohort.splits["val"]["participants"] == 0
    assert record.cohort.test_people == {}
    assert record.cohort.splits_from == {}
    assert "the calibration of each fold" in (record.fitted.calibration or {})["judged_by"]
    assert told["claim"] in headline(record)


def test_a_participant_has_one_fold_and_the_folds_have_every_class(crossed: Probed) -> None:
    cohort = load_run(crossed.folder).cohort
    assert set(cohort["split"]) == {"train"}
    assert cohort.groupby("participant")["fold"].nunique().max() == 1
    people = cohort.drop_duplicates("participant")
    assert pd.crosstab(people["fold"], people["label"]).to_numpy().min() >= 5


def test_a_baseline_that_knows_nothing_is_at_chance_in_uneven_folds(crossed: Probed) -> None:
    """The class shares without a fold go against those in it: without moving the logits the AUROC would be below."""
    assert crossed.record.judged.baselines["dummy"][OUT_OF_FOLD]["macro_auroc"].value == 0.5


def test_a_group_of_everybody_has_the_numbers_of_everybody(crossed: Probed) -> None:
    whole = crossed.record.judged.metrics["participant"][OUT_OF_FOLD]["macro_auroc"].value
    groups = {line["value"]: line for line in crossed.record.judged.subgroups[OUT_OF_FOLD]}
    assert groups["under 50"]["participants"] == groups["L"]["participants"] == PEOPLE
    assert groups["under 50"]["macro_auroc"].value == whole
    assert groups["L"]["macro_auroc"].value > 0.8


def test_baselines_and_the_embedding_with_age_and_site_are_made_in_each_fold(crossed: Probed) -> None:
    found = crossed.record.judged.baselines
    assert {"dummy", "age", "site", "age+site", "embedding+age+site"} <= set(found)
    assert found["embedding+age+site"][OUT_OF_FOLD]["macro_auroc"].value > 0.8
    assert crossed.record.judged.added_to_age_site["macro_auroc"].value is not None
    people = load_run(crossed.folder).predictions
    for name in found:
        part = people[(people["model"] == name) & (people["level"] == "participant")]
        assert part["unit"].nunique() == len(part) == PEOPLE


def test_guessing_has_to_be_beaten_too(crossed: Probed) -> None:
    """A site that knows nothing may lie far below chance in folds; being above it is no merit."""
    found = crossed.record.judged.difference_to_baselines
    own = crossed.record.judged.metrics["participant"][OUT_OF_FOLD]["macro_auroc"].value
    assert found["guessing"]["macro_auroc"].value == pytest.approx(own - 0.5)


def test_the_final_model_is_fitted_on_everybody_and_predicts(crossed: Probed, study: Study, tmp_path: Path) -> None:
    asked = PredictOptions(run=crossed.folder, store="x", out=tmp_path / "new.csv")
    done = predict(asked, read=lambda *_: study.stored)
    assert done.summary["confident_on_val"] is not None
    assert done.summary["known_to_the_run"] == {"train": len(study.stored.index)}
    people = done.table[done.table["level"] == "participant"]
    assert len(people) == PEOPLE


def test_evaluate_refuses_it_by_name(crossed: Probed, study: Study, place: Path) -> None:
    asked = EvaluateOptions(run=crossed.folder, store="x", split="test", labels=place / "labels.csv")
    with pytest.raises(UsageError, match=rf"--run {crossed.record.id}: it is cross-validated and has no test split"):
        evaluate(asked, read=lambda *_: study.stored)
    assert not (place / "runs" / "ledger.jsonl").exists()


def test_compare_takes_runs_of_one_kind(crossed: Probed, study: Study, place: Path, tmp_path: Path) -> None:
    split = labels_of(study, split=["train", "train", "val", "train"] * 10)
    other = run(study, tmp_path, split, model="dummy", cross_validate=None)
    runs = (crossed.folder, other.folder)
    with pytest.raises(UsageError, match=r"cross-validated; .*judged on val: .*compare runs of one kind"):
        compare(CompareOptions(run=runs, runs=place / "runs"), tell=lambda _: None)
    alone = compare(CompareOptions(run=crossed.folder, runs=place / "runs", replicates=40), tell=lambda _: None)
    board = alone.record.tasks["dr"]
    assert board.split == OUT_OF_FOLD
    assert board.participants == PEOPLE


def test_a_learning_curve_refuses_folds(study: Study, tmp_path: Path) -> None:
    labels_of(study, fold=np.arange(PEOPLE) % 4).to_csv(tmp_path / "labels.csv", index=False)
    asked = CurveOptions(
        model="linear", store="x", labels=tmp_path / "labels.csv", target="dr", split_column="fold", runs=tmp_path / "r"
    )
    with pytest.raises(UsageError, match="learning-curve: the labels say folds"):
        learning_curve(asked, read=lambda *_: study.stored, tell=lambda _: None)


@pytest.mark.parametrize(
    ("given", "fault", "message"),
    [
        (
            {"cross_validate": 18},
            UsageError,
            r"--cross-validate 18: .* yes has 17 participants; give 17 folds or fewer",
        ),
        ({"nested": True, "trials": 2}, UsageError, "--nested: a cross-validation has no val split"),
        ({"robustness": True}, UsageError, "--robustness: a cross-validation"),
        ({"seeds": 3}, UsageError, "--seeds: a cross-validation"),
        ({"random_twin": "y"}, UsageError, "--random-twin: a cross-validation"),
        ({"make_splits": (70.0, 15.0, 15.0)}, UsageError, "--make-splits and --cross-validate: expected one"),
    ],
)
def test_what_folds_cannot_have_is_refused(
    study: Study, tmp_path: Path, given: dict[str, object], fault: type[Exception], message: str
) -> None:
    with pytest.raises(fault, match=message):
        run(study, tmp_path, labels_of(study), **given)
    assert not list((tmp_path / "runs").glob("*"))


def source_of(
    study: Study, labels: pd.DataFrame, folder: Path, folds: int | None = FOLDS, **given: object
) -> FeatureSource:
    asked = options(folder, labels, cross_validate=folds, **given)
    question = Question(name="dr", where="--target dr", target="dr", kind="binary", classes=("no", "yes"))
    return source_on(read_tables(asked.label_source, question, tell=lambda _: None).join(study.stored), study.stored)


def test_folds_of_a_column_are_those_of_the_cross_validation(study: Study, tmp_path: Path) -> None:
    labels = labels_of(study, fold=[7, 3, 11, 3] * 10)
    cohort = source_of(study, labels, tmp_path, None, split_column="fold").cohort
    fold, names = deal_outer(cohort, None, 0)
    assert names == ["3", "7", "11"]
    asked = dict(zip(labels["participant"], labels["fold"], strict=True))
    assert [names[number] for number in fold] == [str(asked[person]) for person in cohort.table["participant"]]


def test_locked_people_are_in_no_fold(study: Study, tmp_path: Path) -> None:
    labels = labels_of(study, split=["train", "val", "test", "train"] * 10)
    cohort = source_of(study, labels, tmp_path, split_column="split").cohort
    fold, _ = deal_outer(cohort, FOLDS, 0)
    locked = set(labels.loc[labels["split"] == "test", "participant"])
    assert set(cohort.table.loc[fold == -1, "participant"]) == locked
    assert set(fold[~cohort.table["participant"].isin(locked).to_numpy()]) == set(range(FOLDS))


def test_a_fold_without_which_a_class_is_gone_is_refused(study: Study, tmp_path: Path) -> None:
    labels = labels_of(study)
    labels = labels.assign(fold=np.where(labels["dr"] == "yes", 1, 2))
    cohort = source_of(study, labels, tmp_path, None, split_column="fold").cohort
    with pytest.raises(CohortError, match="without fold 1, 0 participants of yes are left to fit on"):
        deal_outer(cohort, None, 0)


def test_scans_of_a_person_in_two_folds_are_a_leak(study: Study, tmp_path: Path) -> None:
    scans = study.stored.index[["key", "participant"]].merge(labels_of(study), on="participant")
    lines = scans.rename(columns={"key": "file"}).drop(columns="participant").assign(fold=np.arange(len(scans)) % 2)
    cohort = source_of(study, lines, tmp_path, None, split_column="fold").cohort
    with pytest.raises(LeakError, match=r"\(fold 0 and fold 1\)"):
        deal_outer(cohort, None, 0)


def only_dummy(
    held_out: Predictions, people: Predictions, cohort: object, model: str, *, and_train: bool = False
) -> dict[str, Predictions]:
    """What stands next to the head where the baselines are not asked: nothing that takes time."""
    logits = np.zeros((len(people.label) + len(held_out.label), 2))
    unit, person, label = (
        np.concatenate([getattr(people, name), getattr(held_out, name)]) for name in ("unit", "participant", "label")
    )
    return {"dummy": Predictions("dummy", people.level, people.split, unit, person, label, logits, np.exp(logits) / 2)}


def judge(
    source: FeatureSource, folder: Path, folds: tuple[np.ndarray, list[str]], method: str | None = "logistic"
) -> Predictions:
    """Cross-validate as the verb does."""

    def choose(inside: FeatureSource, number: int) -> Chosen:
        plan = SearchPlan("linear", folds=3)
        return choose_model(plan, inside.only("train"), runs=folder, facts={"outer": number}, tell=lambda _: None)

    spec = choose(source, -1).spec
    final = fit_model(spec, source.table(spec.features).only("train"), classes=2, seed=0)
    asked = Asked(method, state_prevalence("no=0.6,yes=0.4", source.cohort), None, 10, 0)
    return judged_of(cross_validate(source, folds, choose, final, asked, lambda _: None).judged.levels)


def test_nothing_inside_a_fold_knows_the_labels_of_the_people_who_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search, fit, standardising, calibration: with other labels in one fold, that fold is predicted alike."""
    monkeypatch.setattr(cross_validation, "predict_beside", only_dummy)
    small = make_study(24, effect=1.0)
    source = source_of(small, labels_of(small, 11), tmp_path)
    table, folds = source.cohort.table, deal_outer(source.cohort, 2, 0)
    turned = table.assign(label=np.where(folds[0] == 1, 1 - table["label"], table["label"]))
    other = replace(source, cohort=replace(source.cohort, table=turned), _tables={})
    ours, theirs = judge(source, tmp_path, folds), judge(other, tmp_path, folds)
    held = np.isin(ours.unit, table.loc[folds[0] == 1, "participant"])
    assert (ours.unit == theirs.unit).all()
    assert np.array_equal(ours.probability[held], theirs.probability[held])
    assert not np.allclose(ours.probability[~held], theirs.probability[~held])


def test_without_an_effect_the_search_and_the_folds_stay_at_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "predict_beside", only_dummy)
    found = []
    for seed in range(4):
        study, rng = make_study(PEOPLE, seed=seed), np.random.default_rng(seed)
        labels = labels_of(study).assign(dr=rng.permutation(["yes"] * 17 + ["no"] * 23))
        source = source_of(study, labels, tmp_path)
        people = judge(source, tmp_path, deal_outer(source.cohort, FOLDS, seed), None)
        values = all_metrics(people.label, people.scores, np.ones((PEOPLE, 1)), ["no", "yes"])
        found.append(values["macro_auroc"][0])
    assert abs(np.mean(found) - 0.5) < 0.1


def test_cross_validated_cells_are_found_again(crossed: Probed, study: Study, place: Path) -> None:
    asked = CompareOptions(
        store="oct=x", models=("linear",), labels=place / "labels.csv", target="dr", cross_validate=FOLDS,
        runs=place / "runs", replicates=40,
    )  # fmt: skip
    done = compare(asked, read=lambda *_: study.stored, tell=lambda _: None)
    assert [one.run for one in done.record.runs] == [crossed.record.id]
    assert done.record.tasks["dr"].split == OUT_OF_FOLD
