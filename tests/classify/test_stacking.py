"""Embedding with age and site: logits of train come from heads that did not see the participant, and all three help."""

from pathlib import Path
from threading import Lock
from time import sleep

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.table import Cohort
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.evaluating.predict_split import predict_beside
from classify.features.table import FeatureTable, make_features
from classify.fitting.model import FittedModel, ModelSpec, fit_model, fit_on, predict_held_out
from classify.heads.linear import LinearHead
from classify.search.folds import TrainingPart


def joined(study: Study, folder: Path) -> tuple[Cohort, FeatureTable]:
    people = read_participants(study.write(folder))
    cohort = join_cohort(study.stored.index, study.stored.pooled, people, TASKS["four-class"])
    return cohort, make_features(cohort, study.stored.pooled, study.stored.space, layer="last", pools=["mean"])


def balanced_accuracy(study: Study, folder: Path) -> dict[str, float]:
    cohort, features = joined(study, folder)
    train, val = features.only("train"), features.only("val")
    spec = ModelSpec("linear", {"C": 0.1})
    model = fit_model(spec, train, classes=4, seed=0)
    people = model.predict(val, classes=4, split="val")["participant"]
    held_out = predict_held_out(model, train, classes=4, seed=0)["participant"]
    others = predict_beside(held_out, people, cohort, "linear")
    found = others | {"linear": people}
    return {name: float((part.probability.argmax(axis=1) == part.label).mean()) for name, part in found.items()}


def test_age_and_embedding_together_beat_either(tmp_path: Path) -> None:
    """The embedding tells healthy and lifestyle from the others; age tells the first of each pair from the second."""
    study = make_study(160)
    group = study.people["study_group"].map(STUDY_GROUPS.index).to_numpy()
    rng = np.random.default_rng(0)
    study.people["age"] = (45 + 20 * (group % 2) + rng.integers(0, 5, len(group))).astype(str)
    of_row = study.people.assign(group=group).set_index("participant_id").loc[study.stored.index["participant"]]
    study.stored.pooled[..., 0] += 6.0 * (of_row["group"].to_numpy() >= 2)[:, None, None]
    found = balanced_accuracy(study, tmp_path)
    assert found["embedding+age+site"] > 0.9
    assert max(found["linear"], found["age+site"]) < 0.75


def test_nobody_is_predicted_by_a_head_that_saw_them(tmp_path: Path) -> None:
    """Labels without any effect: a head that had seen a participant would know them, one that had not cannot."""
    _, features = joined(make_study(120, seed=5), tmp_path)
    train = features.only("train")
    model = fit_model(ModelSpec("knn", {"n_neighbors": 1}), train, classes=4, seed=0)
    people = predict_held_out(model, train, classes=4, seed=0)["participant"]
    assert sorted(people.participant) == sorted(set(train.participant))
    right = np.mean(people.logits.argmax(axis=1) == people.label)
    assert right == pytest.approx(0.25, abs=0.17)


@pytest.mark.parametrize(("model", "ordered"), [("lgbm", False), ("lgbm", True), ("forest", False)])
def test_folds_side_by_side_are_those_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, ordered: bool
) -> None:
    train = joined(make_study(96), tmp_path)[1].only("train")
    fitted = fit_model(ModelSpec(model, {"n_estimators": 10, "ordered": ordered}), train, classes=4, seed=0)
    together, at_once, most = Lock(), 0, 0

    def count(spec: ModelSpec, part: TrainingPart, *, classes: int, seed: int) -> FittedModel:
        nonlocal at_once, most
        with together:
            at_once += 1
            most = max(most, at_once)
        sleep(0.05)
        found = fit_on(spec, part, classes=classes, seed=seed)
        with together:
            at_once -= 1
        return found

    monkeypatch.setattr("classify.fitting.model.fit_on", count)
    held_out, seen = [], []
    for cores in (1, 3):
        for module in ("classify.fitting.model", "classify.on_cores"):
            monkeypatch.setattr(f"{module}.usable_cores", lambda cores=cores: cores)
        most = 0
        held_out.append(predict_held_out(fitted, train, classes=4, seed=0)["volume"])
        seen.append(most)
    assert seen == [1, 3]
    np.testing.assert_array_equal(held_out[0].logits, held_out[1].logits)


def test_an_embedding_without_an_effect_adds_nothing(tmp_path: Path) -> None:
    found = balanced_accuracy(make_study(160, seed=6), tmp_path)
    assert found["embedding+age+site"] < 0.45


def test_folds_that_are_louder_or_quieter_by_chance_are_heard_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As networks are that stop at an epoch decided by chance: what each fold's scores rank is kept, their size not."""
    study = make_study(120, seed=5)
    train = joined(study, tmp_path)[1].only("train")
    model = fit_model(ModelSpec("linear", {"C": 0.1}), train, classes=4, seed=0)
    expected = predict_held_out(model, train, classes=4, seed=0)
    loud = iter(np.geomspace(0.1, 10, 10))

    def fit_loudly(spec: ModelSpec, part: TrainingPart, *, classes: int, seed: int) -> FittedModel:
        fitted = fit_on(spec, part, classes=classes, seed=seed)
        by = next(loud)
        assert isinstance(fitted.head, LinearHead)
        fitted.head.coef_, fitted.head.intercept_ = by * fitted.head.coef_, by * fitted.head.intercept_ + 3 * by
        return fitted

    monkeypatch.setattr("classify.fitting.model.fit_on", fit_loudly)
    found = predict_held_out(model, train, classes=4, seed=0)
    for level in ("volume", "eye", "participant"):
        np.testing.assert_allclose(found[level].probability, expected[level].probability, atol=1e-9)
