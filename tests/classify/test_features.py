"""Features: the right vectors, standardised within protocol on train alone, weighed by participant."""

from pathlib import Path

import numpy as np
import pytest
from classify_study import CHANNELS, Study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.features.standardise import RARE_VOLUMES, Standardiser
from classify.features.table import FeatureTable, make_features, unit_weights
from embeddings_store.errors import UsageError


def features(study: Study, folder: Path, layer: str = "last", pools: tuple[str, ...] = ("mean",)) -> FeatureTable:
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    return make_features(cohort, stored.pooled, stored.space, layer=layer, pools=pools)


def test_pools_stand_side_by_side_with_names(study: Study, tmp_path: Path) -> None:
    table = features(study, tmp_path, pools=("max", "mean"))
    assert table.x.shape == (256, 2 * CHANNELS)
    assert table.names[0] == "last/max/000"
    assert table.names[CHANNELS] == "last/mean/000"
    place = {volume: number for number, volume in enumerate(study.stored.index["volume"])}
    row = study.stored.pooled[place[table.volume[5]], 1]
    assert (table.x[5] == np.concatenate([row[1], row[0]])).all()


@pytest.mark.parametrize(("layer", "pools"), [("7", ("mean",)), ("last", ("median",))])
def test_what_the_store_does_not_hold_is_named(study: Study, tmp_path: Path, layer: str, pools: tuple[str]) -> None:
    with pytest.raises(UsageError, match="the store holds"):
        features(study, tmp_path, layer, pools)


def test_every_frequent_protocol_is_centred_and_scaled() -> None:
    rng = np.random.default_rng(0)
    protocol = np.repeat(["a", "b"], 50)
    x = rng.normal(3, 2, (100, 4)).astype(np.float32) + 50 * (protocol == "b")[:, None].astype(np.float32)
    z = Standardiser.fit(x, protocol).transform(x, protocol)
    assert z.dtype == np.float32
    for name in "ab":
        np.testing.assert_allclose(z[protocol == name].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(z[protocol == name].std(axis=0), 1, atol=1e-5)


def test_rare_and_unseen_protocols_use_the_statistics_of_all() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    protocol = np.array(["often"] * (60 - RARE_VOLUMES + 1) + ["rare"] * (RARE_VOLUMES - 1))
    standardiser = Standardiser.fit(x, protocol)
    assert standardiser.protocols == ("often",)
    expected = (x - x.mean(axis=0)) / x.std(axis=0)
    for name in ("rare", "never seen"):
        z = standardiser.transform(x, np.full(60, name))
        np.testing.assert_allclose(z, expected, atol=1e-5)


def test_a_feature_that_never_varies_is_only_centred() -> None:
    x = np.full((20, 2), 7.3, np.float32)
    z = Standardiser.fit(x, np.full(20, "p")).transform(x, np.full(20, "p"))
    np.testing.assert_allclose(z, 0, atol=1e-5)


def test_a_standardiser_survives_its_folder(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    protocol = np.repeat(["a", "b"], 20)
    before = Standardiser.fit(x, protocol)
    before.save(tmp_path)
    assert (Standardiser.load(tmp_path).transform(x, protocol) == before.transform(x, protocol)).all()


def test_classes_and_participants_weigh_the_same_however_often_they_were_scanned() -> None:
    participant = np.array(["1", "1", "1", "2", "3", "3"])
    label = np.array([0, 0, 0, 0, 1, 1], dtype=np.int64)
    weights = unit_weights(label, participant)
    assert weights.sum() == pytest.approx(3)
    assert weights[label == 0].sum() == pytest.approx(weights[label == 1].sum())
    assert weights[:3].sum() == pytest.approx(weights[3])
    plain = unit_weights(label, participant, balanced=False)
    assert [plain[participant == name].sum() for name in "123"] == pytest.approx([1, 1, 1])
