"""Features, head and aggregation as one: fitted inside train, saved without pickle, and read back as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.errors import RunFolderError
from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.aggregate import AGGREGATIONS, LEARNED, from_probability, mean_eyes, mean_units
from classify.fitting.model import STATE, FittedModel, ModelSpec, check_aggregation, fit_grid, fit_model, load_model
from classify.fitting.protocol_weights import ScanPredictions, learn_weights
from classify.fitting.source import FeatureSource
from classify.heads import HEADS
from classify.heads.knn import KnnHead
from classify.run.folder import MODEL, Run
from classify.run.record import Asked, CohortFacts, Judgement, ModelFacts, Provenance, RunRecord
from classify.search.folds import TrainingPart, make_folds
from embeddings_store.errors import UsageError


def table_of(study: Study, folder: Path) -> FeatureTable:
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    return FeatureSource(cohort, stored.pooled, stored.space).table(FeatureChoice())


def run_of(folder: Path, model: FittedModel, table: FeatureTable) -> Run:
    import pandas as pd

    (folder / MODEL).mkdir(parents=True)
    model.save(folder / MODEL)
    record = RunRecord(
        id="x",
        made=Provenance(),
        asked=Asked(task="four-class", classes=list(STUDY_GROUPS), space="s", phantom=True),
        cohort=CohortFacts(cohort_sha256="", splits={}),
        fitted=ModelFacts(model=model.head.name, features={"layer": "last", "pools": ["mean"]}),
        judged=Judgement(metrics={}),
    )
    return Run(record, pd.DataFrame(), pd.DataFrame(), folder)


@pytest.mark.parametrize("aggregation", list(AGGREGATIONS))
@pytest.mark.parametrize("model", ["linear", "mil"])
def test_a_model_predicts_all_levels_and_is_read_back_as_it_was(
    study: Study, tmp_path: Path, aggregation: str, model: str
) -> None:
    table = table_of(study, tmp_path)
    parameters = {"max_epochs": 2} if model == "mil" else {}
    fitted = fit_model(ModelSpec(model, parameters, aggregation=aggregation), table.only("train"), classes=4, seed=0)
    val = table.only("val")
    levels = fitted.predict(val, classes=4, split="val")
    assert {level: len(part.unit) for level, part in levels.items()} == {"volume": 64, "eye": 32, "participant": 16}
    for part in levels.values():
        np.testing.assert_allclose(part.probability.sum(axis=1), 1)
    read = load_model(run_of(tmp_path / "run", fitted, table))
    assert (read.features, read.aggregation, read.spec) == (fitted.features, fitted.aggregation, fitted.spec)
    for level, part in read.predict(val, classes=4, split="val").items():
        np.testing.assert_array_equal(part.logits, levels[level].logits)
    assert all(path.suffix in (".json", ".npz", ".safetensors") for path in (tmp_path / "run" / MODEL).iterdir())


def test_a_run_from_before_keeps_the_mean_of_logits(study: Study, tmp_path: Path) -> None:
    table = table_of(study, tmp_path)
    fitted = fit_model(ModelSpec("linear"), table.only("train"), classes=4, seed=0)
    run = run_of(tmp_path / "run", fitted, table)
    (tmp_path / "run" / MODEL / STATE).unlink()
    assert load_model(run).spec == fitted.spec
    (tmp_path / "run" / MODEL / STATE).write_text(json.dumps({"features": {}}))
    with pytest.raises(RunFolderError, match=STATE):
        load_model(run)
    with pytest.raises(RunFolderError, match="expected a run of classify probe"):
        load_model(replace(run, record=replace(run.record, fitted=ModelFacts(model="finetune"))))


def test_mean_features_are_fitted_on_participants_and_eyes_count_alike(study: Study, tmp_path: Path) -> None:
    train = table_of(study, tmp_path).only("train")
    fitted = fit_model(ModelSpec("knn", aggregation="mean-features"), train, classes=4, seed=0)
    assert isinstance(fitted.head, KnnHead)
    assert len(fitted.head.rows_) == len(np.unique(train.participant)) == 32
    standard = train.standardised(fitted.standardiser)
    one = standard.participant == standard.participant[0]
    left, right = (standard.x[one & (standard.eye == eye)].mean(axis=0) for eye in "LR")
    np.testing.assert_allclose(mean_units(standard).x[0], (left + right) / 2, rtol=1e-5)
    of_left = np.flatnonzero(one & (standard.eye == "L"))
    lopsided = standard.where(np.setdiff1d(np.arange(len(one)), of_left[1:]))
    np.testing.assert_allclose(mean_units(lopsided).x[0], (mean_eyes(lopsided).x[:2]).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("aggregation", LEARNED)
def test_what_an_aggregation_learns_is_learned_inside_the_training_part(tmp_path: Path, aggregation: str) -> None:
    """Other held-out labels and rows change nothing that a fold's model has learned."""
    train = table_of(make_study(96, effect=0.7), tmp_path).only("train")
    (before, *_) = make_folds(train, seed=0)
    held = np.isin(train.participant, before.held.participant)
    changed = replace(train, x=np.where(held[:, None], train.x[::-1] * 7, train.x).astype(np.float32))
    (after, *_) = make_folds(changed, seed=0)
    spec = ModelSpec("linear", aggregation=aggregation)
    models = [fit_model(spec, part.fit.raw, classes=4, seed=0) for part in (before, after)]
    assert models[0].aggregation == models[1].aggregation
    assert models[0].aggregation.weights
    whole = fit_model(spec, changed, classes=4, seed=0).aggregation
    assert aggregation == "best-protocol" or whole != models[0].aggregation


def test_networks_learn_an_aggregation_from_whom_they_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fitted for it: the weights are those of what each network says of the participants it did not see."""
    train = table_of(make_study(96, effect=0.7), tmp_path).only("train")
    monkeypatch.setattr("classify.fitting.model.predict_out_of_fold", None)
    fitted = fit_model(ModelSpec("mlp", {"networks": 2}, aggregation="learned-weights"), train, classes=4, seed=0)
    rows = train.standardised(fitted.standardiser)
    known = fitted.head.held_out_proba(rows.x)
    seen = rows.where(np.isfinite(known[:, 0]))
    assert 0 < len(np.unique(seen.participant)) < len(np.unique(rows.participant)) / 2
    scans = from_probability(
        known[np.isfinite(known[:, 0])], fitted.head.classes_, 4,
        model="mlp", level="volume", split="train", unit=seen.volume, table=seen,
    )  # fmt: skip
    assert fitted.aggregation.weights == learn_weights(ScanPredictions.join([scans], [seen]))[0]
    assert len(fitted.aggregation.weights) > 1


@pytest.mark.parametrize("aggregation", list(AGGREGATIONS))
def test_a_grid_fits_what_one_by_one_fits(study: Study, tmp_path: Path, aggregation: str) -> None:
    train = table_of(study, tmp_path).only("train")
    spec = ModelSpec("linear", aggregation=aggregation)
    candidates = [{"C": 0.01}, {"C": 1.0}]
    ((first, second),) = fit_grid(spec, [TrainingPart(train, 0)], candidates, classes=4, seed=0)
    for model, candidate in ((first, candidates[0]), (second, candidates[1])):
        alone = fit_model(replace(spec, parameters=candidate), train, classes=4, seed=0)
        both = (one.predict(train, classes=4, split="train")["participant"] for one in (model, alone))
        np.testing.assert_allclose(*(part.probability for part in both), atol=1e-3)


def test_an_aggregation_that_a_head_cannot_have_is_refused() -> None:
    assert check_aggregation("linear", "best-protocol") == "best-protocol"
    assert check_aggregation("mil", "mean-logits") == "by-head"
    with pytest.raises(UsageError, match="mil can have auto, by-head; got 'mean-features'"):
        check_aggregation("mil", "mean-features")
    with pytest.raises(UsageError, match="linear can have auto, mean-logits"):
        check_aggregation("linear", "median")
    assert "mil" in HEADS
