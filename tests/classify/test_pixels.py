"""The pixel floor finds what lies in small grey pictures, nothing where nothing is, and says why it is absent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, make_study, pictured

from classify.baselines.covariate_models import KINDS, fit_covariates
from classify.baselines.covariates import PIXELS, choose_baselines, describe_units, predict_baselines
from classify.baselines.pixels import PersonThumbnails, thumbnails_of_units
from classify.cohort.labels import LabelSource
from classify.cohort.table import Cohort
from classify.cohort.tables import read_tables
from classify.cohort.tasks import TASKS, find_question
from classify.fitting.source import source_on
from classify.judging.metrics import all_metrics
from classify.run.predictions import Predictions
from embeddings_store.thumbnails import Thumbnails


def joined(study: Study, folder: Path) -> Cohort:
    return read_tables(LabelSource(study.write(folder)), find_question("four-class"), tell=print).join(study.stored)


def predicted(cohort: Cohort, split: str = "val") -> Predictions:
    train, judged = describe_units(cohort, "train"), describe_units(cohort, split)
    return predict_baselines(TASKS["four-class"], train, judged, split=split, names=[PIXELS])[PIXELS]


def macro_auroc(found: Predictions) -> float:
    values = all_metrics(found.label, found.probability, np.ones((len(found.label), 1)), TASKS["four-class"].classes)
    return float(values["macro_auroc"][0])


def reason(cohort: Cohort) -> str:
    missing = choose_baselines(TASKS["four-class"], *(describe_units(cohort, split) for split in ("train", "val")))[1]
    return next(line["reason"] for line in missing if line["name"] == PIXELS)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_shape_in_the_pixels_is_found_on_both_judged_splits(tmp_path: Path, split: str) -> None:
    found = predicted(joined(pictured(make_study(128), effect=25), tmp_path), split)
    assert macro_auroc(found) > 0.85
    assert found.probability.sum(axis=1) == pytest.approx(1)


def test_without_an_effect_it_stays_at_chance(tmp_path: Path) -> None:
    null = [
        macro_auroc(predicted(joined(pictured(make_study(96, seed=seed), effect=0, seed=seed), tmp_path)))
        for seed in range(12)
    ]
    assert abs(np.mean(null) - 0.5) < 0.06


def test_the_device_is_taken_out_and_each_eye_counts_once(tmp_path: Path) -> None:
    """A scan of one eye more, and a protocol that is brighter all over, change nothing of a person's mean."""
    study = pictured(make_study(64), effect=25)
    before = predicted(joined(study, tmp_path))
    assert study.stored.thumbnails is not None
    brighter = study.stored.thumbnails.images.copy()
    of_device = (study.stored.index["device"] == "topcon_triton").to_numpy()
    brighter[of_device] = np.clip(brighter[of_device].astype(int) // 2 + 90, 0, 255)
    other = replace(study.stored, thumbnails=replace(study.stored.thumbnails, images=brighter))
    after = predicted(joined(Study(study.people, other), tmp_path))
    assert np.abs(before.probability - after.probability).max() < 0.1


def test_it_is_absent_with_its_reason(tmp_path: Path) -> None:
    study = make_study(64)
    assert "no thumbnails" in reason(joined(study, tmp_path))
    nobody = Thumbnails(
        np.zeros((len(study.stored.index), 8, 32, 32), np.uint8), np.zeros(len(study.stored.index), bool)
    )
    unknown = Study(study.people, replace(study.stored, thumbnails=nobody))
    assert "no thumbnails" in reason(joined(unknown, tmp_path))
    some = reason(joined(pictured(study, effect=25, known=0.9), tmp_path))
    assert "participants of the judged split have a volume without a thumbnail" in some
    alike = replace(nobody, known=~nobody.known)
    assert reason(joined(Study(study.people, replace(study.stored, thumbnails=alike)), tmp_path)) == (
        "all thumbnails of train are alike"
    )
    assert (
        PIXELS
        in choose_baselines(TASKS["four-class"], describe_units(joined(pictured(study, effect=0), tmp_path), "train"))[
            0
        ]
    )


def test_thumbnails_stay_with_their_volumes_whatever_the_order_of_the_store(tmp_path: Path) -> None:
    study = pictured(make_study(32), effect=25)
    cohort = joined(study, tmp_path)
    stored = study.stored
    assert stored.thumbnails is not None
    assert cohort.thumbnails is not None
    place = {volume: number for number, volume in enumerate(stored.index["volume"])}
    rows = [place[volume] for volume in cohort.table["volume"]]
    np.testing.assert_array_equal(cohort.thumbnails.images, stored.thumbnails.images[rows])
    kept = source_on(cohort, stored).only("val").cohort
    assert kept.thumbnails is not None
    rows = [place[volume] for volume in kept.table["volume"]]
    np.testing.assert_array_equal(kept.thumbnails.images, stored.thumbnails.images[rows])
    people = thumbnails_of_units(cohort, "val")
    assert people is not None
    one: PersonThumbnails = people["thumbnails"][0]
    mine = (cohort.table["participant"] == people["unit"][0]).to_numpy()
    np.testing.assert_array_equal(one.images, cohort.thumbnails.images[mine])


def test_nothing_of_the_judged_reaches_the_fit(tmp_path: Path) -> None:
    cohort = joined(pictured(make_study(64), effect=25), tmp_path)
    before = predicted(cohort)
    assert cohort.thumbnails is not None
    others = (cohort.table["split"] == "test").to_numpy()
    changed = cohort.thumbnails.images.copy()
    changed[others] = 255 - changed[others]
    first = np.flatnonzero((cohort.table["participant"] == before.participant[0]).to_numpy())
    changed[first] = 0
    after = predicted(replace(cohort, thumbnails=replace(cohort.thumbnails, images=changed)))
    np.testing.assert_allclose(after.probability[1:], before.probability[1:], rtol=0, atol=1e-12)
    assert np.abs(after.probability[0] - before.probability[0]).max() > 1e-6


def test_the_first_kind_is_taken_where_no_fold_can_be_made() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2))
    label = np.array([0, 0, 0, 0, 1])
    assert fit_covariates(x, label, classes=2).kind == "straight"


def test_the_same_floor_is_fitted_once_and_any_other_anew() -> None:
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    first = fit_covariates(x, label, classes=2)
    assert fit_covariates(x.copy(), label.copy(), classes=2) is first
    others = [
        fit_covariates(x + 1e-9, label, classes=2),
        fit_covariates(x, 1 - label, classes=2),
        fit_covariates(x, label, classes=3),
        fit_covariates(x, label, classes=2, seed=1),
        fit_covariates(x, label.astype(np.float64), classes=0),
        fit_covariates(x, label, classes=2, kinds={"straight": KINDS["straight"]}),
    ]
    assert len({id(one) for one in (first, *others)}) == 7
