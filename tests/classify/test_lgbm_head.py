"""The LightGBM head shares its bins among fits, and may look at principal components."""

from pathlib import Path

import lightgbm
import numpy as np
import pytest
from sklearn.decomposition import PCA

from classify.heads import lgbm, load_head
from classify.heads.contract import TrainingRows
from classify.heads.lgbm import LgbmHead
from classify.heads.principal import find_components


def make_part(n: int = 120, d: int = 10) -> TrainingRows:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 4
    x = rng.normal(size=(n, d)) * np.linspace(3, 0.5, d)
    x[:, 0] += 2 * y
    return TrainingRows(x, y, rng.uniform(0.5, 2.0, n))


def test_rows_are_binned_once_for_many_fits_and_fits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    part = make_part()
    candidates = [
        {"n_estimators": 5, "min_child_share": share, "pca": pca} for pca in (0, 3) for share in (0.02, 0.1, 0.01)
    ]
    alone = [LgbmHead(random_state=4, **one).fit(part.x, part.y, part.weights) for one in candidates]
    made: list[object] = []
    construct = lightgbm.Dataset.construct
    monkeypatch.setattr(
        lightgbm.Dataset,
        "construct",
        lambda self: (made.append(self) if self._handle is None else None, construct(self))[1],
    )
    (together,) = LgbmHead.fit_grid([part], candidates, random_state=4)
    assert len(made) == 2  # one for the features, one for three components
    for one, other in zip(alone, together, strict=True):
        assert one.get_params() == other.get_params()
        np.testing.assert_array_equal(one.predict_proba(part.x), other.predict_proba(part.x))


def test_components_are_those_of_scikit_learn() -> None:
    part = make_part()
    ours = find_components(part.x, np.ones(len(part.x)))
    theirs = PCA(4).fit(part.x)
    np.testing.assert_allclose(
        np.abs(ours.first(4).project(part.x)), np.abs(theirs.transform(part.x)), atol=1e-9
    )  # signs are free
    largest = np.abs(ours.directions).argmax(axis=1)
    assert (ours.directions[np.arange(len(largest)), largest] > 0).all()


def test_a_weight_of_two_is_a_row_twice_for_components() -> None:
    part = make_part()
    counts = np.arange(len(part.x)) % 3
    weighted = find_components(part.x, counts.astype(np.float64))
    repeated = np.repeat(part.x, counts, axis=0)
    np.testing.assert_allclose(weighted.directions, find_components(repeated, np.ones(len(repeated))).directions)


def test_a_head_on_components_survives_its_folder(tmp_path: Path) -> None:
    part = make_part()
    head = LgbmHead(n_estimators=5, pca=3).fit(part.x, part.y)
    assert head.booster_.num_feature() == 3
    head.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".npz", ".txt"}
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(part.x), head.predict_proba(part.x))


def test_more_components_than_there_are_is_all_of_them() -> None:
    part = make_part(n=60, d=4)
    assert LgbmHead(n_estimators=2, pca=50).fit(part.x, part.y).booster_.num_feature() == 4


def test_rows_asked_of_in_parts_are_those_asked_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 6)).astype(np.float32), np.arange(90) % 3
    head = LgbmHead(n_estimators=5).fit(x, y)
    whole = head.predict_proba(x)
    monkeypatch.setattr(lgbm, "ASKED_AT_ONCE", 7)
    np.testing.assert_array_equal(head.predict_proba(x), whole)
