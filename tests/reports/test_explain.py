"""SHAP values add up, equal those of the shap package, and say the direction that was put in."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_run import build_run
from simulated_study import simulated_features

import octprobe
from classify.heads.lgbm import LgbmHead
from embeddings_store.errors import RunError, UsageError
from reports.explain import ROWS_AT_ONCE, ShapValues, explain_linear, explain_trees, load_booster
from reports.explanations import EXPLAINERS, explain_study
from reports.runs import FinishedRun, read_runs
from reports.shap_values import write_explanation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("runs")
    build_run(folder, "trees", strength=1.2)
    return read_runs(folder)[0]


@pytest.fixture(scope="module")
def x(run: FinishedRun) -> np.ndarray:
    return simulated_features(run.run).only("val").x.astype(np.float64)


def test_values_add_up_to_the_raw_score(run: FinishedRun, x: np.ndarray) -> None:
    booster = load_booster(run.folder)
    shap = explain_trees(booster, x)
    assert shap.values.shape == (len(x), 4, x.shape[1])
    whole = shap.expected + shap.values.sum(axis=2)
    np.testing.assert_allclose(whole, booster.predict(x, raw_score=True), atol=1e-9)
    assert shap.gap < 1e-9


def test_values_equal_those_of_the_shap_package(run: FinishedRun, x: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer

        theirs = np.asarray(TreeExplainer(load_booster(run.folder)).shap_values(x))
    ours = explain_trees(load_booster(run.folder), x).values
    np.testing.assert_allclose(ours, theirs.transpose(0, 2, 1), atol=1e-6)


class BrokenBooster:
    """Its parts do not add up to its score."""

    def num_feature(self) -> int:
        return 2

    def num_model_per_iteration(self) -> int:
        return 1

    def predict(self, x: np.ndarray, *, pred_contrib: bool = False, raw_score: bool = False) -> np.ndarray:
        return np.ones((len(x), 3)) if pred_contrib else np.full(len(x), 3.001)


def test_values_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(RunError, match="do not add up"):
        explain_trees(BrokenBooster(), np.zeros((4, 2)))


def test_features_of_another_width_are_refused(run: FinishedRun, x: np.ndarray) -> None:
    with pytest.raises(RunError, match="expected 16 features, got 15"):
        explain_trees(load_booster(run.folder), x[:, :15])


def test_the_feature_that_follows_the_label_comes_first(run: FinishedRun) -> None:
    explanation = explain_study([run], simulated_features)
    assert "Most: last/mean/000," in explanation.pictures[0].alt


def test_a_head_without_features_is_not_explained(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = ShapValues(np.zeros((1, 4, 16)), np.zeros(4), 0.0)
    monkeypatch.setitem(EXPLAINERS, run.model, lambda *_: (flat, np.zeros((1, 4))))
    monkeypatch.setattr("reports.explanations._check_reproduces", lambda *_: None)
    assert "uses no feature at all" in explain_study([run], simulated_features).absent


def test_the_values_are_kept_as_the_shap_package_opens_them(run: FinishedRun, tmp_path: Path) -> None:
    explanation = explain_study([run], simulated_features)
    assert explanation.values is not None
    write_explanation(explanation.values, explanation.volumes, tmp_path / "explanation.npz")
    again = octprobe.read_explanation(tmp_path / "explanation.npz")
    assert type(again).__module__.startswith("shap.")
    np.testing.assert_array_equal(again.values, explanation.values.values)
    assert again.shape == (len(explanation.volumes), 16, len(run.classes))
    assert again[:, :, run.classes[0]].values.shape == (len(explanation.volumes), 16)
    raw = load_booster(run.folder).predict(again.data, raw_score=True)
    np.testing.assert_allclose(again.base_values + again.values.sum(axis=1), raw, atol=1e-9)
    (tmp_path / "none.npz").write_bytes(b"PK")
    whole = (tmp_path / "explanation.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("no archive at all")
    for wrong in ("none.npz", "cut.npz", "text.npz", "not there"):
        with pytest.raises(UsageError, match=r"expected the explanation\.npz") as refused:
            octprobe.read_explanation(tmp_path / wrong)
        assert "pickle" not in str(refused.value)


def test_the_surest_volume_may_be_one_of_the_other_class(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = len(simulated_features(run.run).only("val").x)
    values = np.zeros((rows, 1, 16))
    values[0, 0, 0], values[1, 0, 0] = 3.0, -8.0
    probability = np.where(np.arange(rows) == 1, 3e-4, 0.6)
    monkeypatch.setitem(EXPLAINERS, run.model, lambda *_: (ShapValues(values, np.zeros(1), 0.0), probability))
    monkeypatch.setattr("reports.explanations._check_reproduces", lambda *_: None)
    drawn = list[int]()

    def draw(_shown: object, certain: int, *_: object, **__: object) -> list[object]:
        drawn.append(certain)
        return []

    monkeypatch.setattr("reports.explanations.picture_explanation", draw)
    explain_study([run], simulated_features)
    assert drawn == [1]


def test_ordered_trees_are_explained_by_their_one_score(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    table = simulated_features(run.run)
    head = LgbmHead(n_estimators=20, feature_fraction=1.0, ordered=True).fit(table.x, table.y)
    monkeypatch.setattr("reports.explanations.load_booster", lambda _: head.booster_)
    monkeypatch.setattr("reports.explanations.load_model", lambda _: SimpleNamespace(head=head))
    seen = list[np.ndarray]()
    monkeypatch.setattr("reports.explanations._check_reproduces", lambda *given: seen.append(given[2]))
    explanation = explain_study([run], lambda _: table)
    assert explanation.values.output_names == [run.classes[-1]]
    np.testing.assert_array_equal(seen[0], head.predict_proba(table.only("val").x))


def test_pictures_are_the_same_each_time(run: FinishedRun) -> None:
    one, two = (explain_study([run], simulated_features).pictures for _ in range(2))
    assert [picture.anchor for picture in one] == ["shap", "shap-volumes", "shap-volume"]
    assert one == two


def test_the_best_lightgbm_run_is_explained_on_validation_volumes(run: FinishedRun) -> None:
    explanation = explain_study([run], simulated_features)
    volumes = int((run.run.cohort["split"] == "val").sum())
    assert f"{volumes} validation volumes" in explanation.pictures[0].caption


def test_features_that_do_not_give_the_recorded_predictions_are_not_explained(run: FinishedRun) -> None:
    def shuffled(one: object) -> object:
        table = simulated_features(run.run)
        return replace(table, x=table.x[::-1].copy())

    explanation = explain_study([run], shuffled)  # type: ignore[arg-type]  # a plain function of any run
    assert explanation.pictures == ()
    assert "differs from the recorded predictions" in explanation.absent


def test_without_trees_or_a_linear_head_the_reason_is_said(tmp_path: Path) -> None:
    build_run(tmp_path, "a", model="ordinal")
    assert "no LightGBM or linear run" in explain_study(read_runs(tmp_path), simulated_features).absent


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    (build_run(tmp_path, "a") / "model" / "head.lightgbm.txt").unlink()
    assert "expected one LightGBM text model" in explain_study(read_runs(tmp_path), simulated_features).absent


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("count", [30, 2 * ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 3])
def test_a_linear_model_is_explained_as_shap_does(count: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    coef, intercept, rows = rng.normal(size=(outputs, 7)), rng.normal(size=outputs), rng.normal(size=(count, 7))
    ours = explain_linear(coef, intercept, rows.mean(axis=0), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import LinearExplainer
        from shap.maskers import Independent

        explainer = LinearExplainer((coef, intercept), Independent(rows, max_samples=count))
        theirs = explainer.shap_values(rows).reshape(count, 7, outputs)
    np.testing.assert_allclose(ours.values, theirs.transpose(0, 2, 1), atol=1e-9)
    np.testing.assert_allclose(ours.expected + ours.values.sum(axis=2), rows @ coef.T + intercept, atol=1e-9)


def test_trees_on_principal_components_are_not_explained_by_feature(tmp_path: Path) -> None:
    folder = build_run(tmp_path, "a")
    np.savez(folder / "model" / "head.npz", mean=np.zeros(16))
    with pytest.raises(RunError, match="principal components"):
        load_booster(folder)
