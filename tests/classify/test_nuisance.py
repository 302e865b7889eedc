"""The table of nuisances finds what the embedding knows, and nothing where there is nothing."""

from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study
from sklearn import metrics as peer
from sklearn.linear_model import Ridge

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.features.table import make_features
from classify.judging.nuisance import AS_SEEN, AS_STORED, FEWEST_PARTICIPANTS, SHRINKAGE, Target, guess, probe_nuisance
from classify.judging.regression import r_squared


def probed(study: Study, folder: Any) -> dict[tuple[str, str], dict[str, Any]]:
    cohort = join_cohort(
        study.stored.index, study.stored.pooled, read_participants(study.write(folder)), TASKS["four-class"]
    )
    features = make_features(cohort, study.stored.pooled, study.stored.space, layer="last", pools=["mean"])
    lines = probe_nuisance(features.only("train"), features.only("val"), cohort.table, replicates=100, seed=0)
    return {(line["target"], line["features"]): line for line in lines}


def test_the_device_is_known_as_stored_and_hidden_by_standardising(tmp_path: Any) -> None:
    found = probed(make_study(96), tmp_path)
    for target in ("device", "protocol"):
        assert found[target, AS_STORED]["value"] > 0.99
        assert found[target, AS_SEEN]["low"] < 0.5 < found[target, AS_SEEN]["high"]
    assert found["device", AS_STORED]["values"] == ["heidelberg_spectralis", "topcon_triton"]


def test_site_eye_and_age_are_not_found_where_they_are_not(tmp_path: Any) -> None:
    found = probed(make_study(160, seed=3), tmp_path)
    for target in ("site", "eye"):
        assert found[target, AS_SEEN]["low"] < 0.5 < found[target, AS_SEEN]["high"]
    assert found["age", AS_SEEN]["low"] < 0.1


def test_site_eye_and_age_are_found_where_they_are(tmp_path: Any) -> None:
    study = make_study(96)
    people = study.people.set_index("participant_id").loc[study.stored.index["participant"]]
    pooled = study.stored.pooled
    pooled[..., 1] += 3 * (people["clinical_site"] == "UW").to_numpy()[:, None, None]
    pooled[..., 2] += 3 * (people["clinical_site"] == "UAB").to_numpy()[:, None, None]
    pooled[..., 3] += 3 * (study.stored.index["eye"] == "L").to_numpy()[:, None, None]
    pooled[..., 4] += 0.3 * people["age"].astype(float).to_numpy()[:, None, None]
    found = probed(study, tmp_path)
    for target in ("site", "eye"):
        assert found[target, AS_SEEN]["low"] > 0.9
    assert found["age", AS_SEEN]["low"] > 0.7
    assert (found["site", AS_SEEN]["level"], found["site", AS_SEEN]["units"]) == ("participant", 24)


def test_the_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, person = rng.normal(size=(50, 6)).astype(np.float32), np.repeat([f"{number}" for number in range(25)], 2)
    wanted, wide = rng.normal(size=(50, 2)), x.astype(np.float64)
    every, some = np.ones(50, dtype=bool), np.arange(50) < 40
    asked = [
        Target("age", "participant", wanted[:, column], known, judged, {})  # those of the same rows are fitted together
        for known in (every, some, every)
        for column, judged in (([0, 1], every), ([1], some))
    ]
    for target, found in zip(asked, guess(lambda rows: x[rows], person, asked), strict=True):
        alone = Ridge(alpha=SHRINKAGE * target.fitted.sum() / 2, solver="cholesky")
        alone.fit(wide[target.fitted], target.wanted[target.fitted], sample_weight=np.full(target.fitted.sum(), 0.5))
        np.testing.assert_allclose(found, alone.predict(wide[target.judged]).reshape(found.shape), atol=1e-10)


def test_r_squared_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(60, 9, 40), rng.normal(60, 9, 40)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=5).T.astype(np.float64)
    expected = [peer.r2_score(truth, guess, sample_weight=weights[:, column]) for column in range(5)]
    np.testing.assert_allclose(r_squared(truth, guess, weights), expected, atol=1e-9)


def test_what_cannot_be_asked_is_absent(tmp_path: Any) -> None:
    study = make_study(64)
    study.people["age"] = ""
    study.people["clinical_site"] = "one place"
    found = probed(study, tmp_path)
    assert "no age is known" in found["age", AS_SEEN]["absent"]
    assert f"{FEWEST_PARTICIPANTS} participants" in found["site", AS_SEEN]["absent"]
    assert found["eye", AS_SEEN]["value"] == pytest.approx(0.5, abs=0.3)
