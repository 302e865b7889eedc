"""Parameters are chosen inside train, by participants, and the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from classify_study import CHANNELS, Study, make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.splits import check_no_leak
from classify.cohort.tasks import TASKS
from classify.features import FeatureTable, make_features
from classify.search.folds import FOLDS, make_folds
from classify.search.search import search_head
from classify.search.spaces import GRIDS, SPACES
from embeddings_store.errors import UsageError


def train_table(study: Study, folder: Path) -> FeatureTable:
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    return make_features(cohort, stored.pooled, stored.space, layer="last", pools=("mean",)).only("train")


def test_folds_share_no_participant_and_hold_everybody_once(study: Study, tmp_path: Path) -> None:
    train = train_table(study, tmp_path)
    folds = make_folds(train, seed=0)
    assert len(folds) == FOLDS
    held = [fold.held.participant for fold in folds]
    check_no_leak({str(number): people.tolist() for number, people in enumerate(held)})
    assert sorted(np.concatenate(held)) == sorted(train.participant)
    for fold in folds:
        check_no_leak({"fit": fold.fit.participant.tolist(), "held": fold.held.participant.tolist()})


def test_a_fold_is_standardised_by_its_own_training_part(study: Study, tmp_path: Path) -> None:
    for fold in make_folds(train_table(study, tmp_path), seed=0):
        for protocol in np.unique(fold.fit.protocol):
            rows = fold.fit.x[fold.fit.protocol == protocol]
            np.testing.assert_allclose(rows.mean(axis=0), np.zeros(CHANNELS), atol=1e-4)


def test_the_grid_is_tried_and_the_best_taken(study: Study, tmp_path: Path) -> None:
    found = search_head("linear", train_table(study, tmp_path), classes=4, trials=0, seed=0, folder=tmp_path)
    assert found is not None
    assert found.record["trials"] == len(GRIDS["linear"])
    assert found.record["best"]["value"] == max(tried["value"] for tried in found.record["history"]) > 0.8
    assert found.parameters == found.record["best"]["parameters"]


def test_a_head_without_a_grid_keeps_its_defaults(study: Study, tmp_path: Path) -> None:
    train = train_table(study, tmp_path)
    assert search_head("lgbm", train, classes=4, trials=0, seed=0, folder=tmp_path) is None
    with pytest.raises(UsageError, match="dummy has no parameters"):
        search_head("dummy", train, classes=4, trials=3, seed=0, folder=tmp_path)


def test_trials_stay_in_their_space_are_journalled_and_repeat_per_seed(tmp_path: Path) -> None:
    train = train_table(make_study(32, effect=2.0), tmp_path)
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        results.append(search_head("lgbm", train, classes=4, trials=3, seed=7, folder=folder))
        assert (folder / "search.journal").stat().st_size > 0
    assert results[0] == results[1]
    for tried in results[0].record["history"]:
        assert set(tried["parameters"]) == set(SPACES["lgbm"])
        for name, (_, low, high) in SPACES["lgbm"].items():
            assert low <= tried["parameters"][name] <= high
