"""Baselines learn on participants of train, say what age and site say, and handle what is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.baselines.brightness import brightness_of_units
from classify.baselines.covariates import (
    CEILING,
    baselines_of,
    choose_baselines,
    describe_units,
    encode_covariates,
    predict_baselines,
)
from classify.cohort.clinical import refuse_label_defining
from classify.cohort.labels import LabelSource
from classify.cohort.measurements import Measurements
from classify.cohort.table import BRIGHTNESS, Cohort
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import TASKS, find_question
from classify.errors import LeakError
from classify.judging.metrics import all_metrics


def people(count: int, *, seed: int = 0) -> pd.DataFrame:
    """Age tells the class apart; the site does not."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    return pd.DataFrame(
        {
            "unit": [f"{1000 + number}" for number in range(count)],
            "participant": [f"{1000 + number}" for number in range(count)],
            "site": np.array(["UW", "UAB", "UCSD"])[rng.integers(0, 3, count)],
            "age": 50.0 + 20 * label + rng.normal(0, 3, count),
            "label": label,
            "protocols": np.where(rng.integers(0, 2, count) > 0, "a/p|b/q", "a/p"),
        }
    )


def accuracy(name: str, train: pd.DataFrame, judged: pd.DataFrame) -> float:
    predictions = predict_baselines(TASKS["healthy-vs-rest"], train, judged, split="val", names=[name])[name]
    return float((predictions.probability.argmax(axis=1) == predictions.label).mean())


def test_age_is_found_and_site_is_not() -> None:
    train, judged = people(60), people(40, seed=1)
    assert accuracy("age", train, judged) > 0.95
    assert accuracy("age+site", train, judged) > 0.95
    assert accuracy("site", train, judged) < 0.75


def test_the_dummy_gives_the_frequencies_of_train() -> None:
    train = people(40).query("label == 0 or age > 72")
    share = train["label"].mean()
    dummy = predict_baselines(TASKS["healthy-vs-rest"], train, people(10), split="val", names=["dummy"])["dummy"]
    assert dummy.probability[:, 1] == pytest.approx(share)


def test_missing_ages_are_marked_not_guessed() -> None:
    train = people(40)
    train.loc[:3, "age"] = np.nan
    encoded = encode_covariates(train, train, ("age",))
    assert encoded[:4].tolist() == [[0.0, 1.0]] * 4
    assert (encoded[4:, 1] == 0).all()
    assert np.isfinite(encoded).all()


def test_no_ages_at_all_and_an_unseen_site_still_predict() -> None:
    train, judged = people(40), people(8, seed=1)
    train["age"] = judged["age"] = np.nan
    judged["site"] = "elsewhere"
    names = [*("dummy", "age", "site", "age+site"), "device+protocol"]
    for name, predictions in predict_baselines(TASKS["four-class"], train, judged, split="val", names=names).items():
        assert predictions.model == name
        assert predictions.probability.shape == (8, 4)
        assert predictions.probability.sum(axis=1) == pytest.approx(1)
        assert (predictions.probability[:, 2:] < 1e-9).all()


def test_device_and_protocol_are_found_where_they_tell_the_class() -> None:
    train, judged = people(60), people(40, seed=1)
    assert accuracy("device+protocol", train, judged) < 0.75
    for table in (train, judged):
        table["protocols"] = np.where(table["label"] == 1, "a/p|b/q", "a/p")
    assert accuracy("device+protocol", train, judged) == 1.0
    judged["protocols"] = "unseen/r"
    encoded = encode_covariates(judged, train, ("protocols",))
    assert encoded.shape == (40, 2)
    assert (encoded == 0).all()


def brightened(study: Study, vector: np.ndarray) -> Study:
    """Put the same number into every column of brightness, one row a volume."""
    index = study.stored.index.assign(**dict.fromkeys(BRIGHTNESS, vector))
    return Study(study.people, replace(study.stored, index=index))


def joined(study: Study, folder: Path, measured: Measurements | None = None) -> Cohort:
    tables = CohortTables(
        read_tables(LabelSource(study.write(folder)), find_question("four-class"), tell=print).labels, measured
    )
    return tables.join(study.stored)


def macro_auroc(cohort: Cohort, name: str) -> float:
    train, judged = describe_units(cohort, "train"), describe_units(cohort, "val")
    assert name in choose_baselines(TASKS["four-class"], train)[0]
    found = predict_baselines(TASKS["four-class"], train, judged, split="val", names=[name])[name]
    values = all_metrics(found.label, found.probability, np.ones((len(found.label), 1)), TASKS["four-class"].classes)
    return float(values["macro_auroc"][0])


def class_of_rows(study: Study) -> np.ndarray:
    group = study.people.set_index("participant_id")["study_group"].map(TASKS["four-class"].class_of)
    return group.loc[study.stored.index["participant"]].to_numpy(np.float64)


def test_raw_intensities_tell_the_class_where_they_do_and_the_device_is_taken_out(tmp_path: Path) -> None:
    study = make_study(96)
    rng = np.random.default_rng(0)
    device = 100.0 * (study.stored.index["device"] == "topcon_triton").to_numpy()
    noise = rng.normal(0, 0.3, len(study.stored.index))
    told = joined(brightened(study, device + class_of_rows(study) + noise), tmp_path)
    assert macro_auroc(told, "raw intensity statistics") > 0.8
    assert macro_auroc(joined(brightened(study, device + noise), tmp_path), "raw intensity statistics") < 0.7


def test_each_eye_counts_once_and_train_sets_the_scale(tmp_path: Path) -> None:
    study = make_study(64)
    cohort = joined(brightened(study, np.arange(len(study.stored.index), dtype=np.float64)), tmp_path)
    before = brightness_of_units(cohort, "train")
    assert before is not None
    assert before["unit"].tolist() == sorted(cohort.units("train")["participant"])
    held_out = (cohort.table["split"] != "train").to_numpy()
    assert cohort.brightness is not None
    cohort.brightness.loc[held_out, list(BRIGHTNESS)] += 1e6
    pd.testing.assert_frame_equal(brightness_of_units(cohort, "train"), before)


def test_brightness_that_the_store_does_not_know_is_absent_or_marked(tmp_path: Path) -> None:
    study = make_study(64)
    assert "older extract-embeddings" in reasons(joined(study, tmp_path))["raw intensity statistics"]
    unknown = joined(brightened(study, np.full(len(study.stored.index), np.nan)), tmp_path)
    assert "raw intensity statistics" in reasons(unknown)
    some = np.where(study.stored.index["participant"] == study.people["participant_id"][0], np.nan, 3.0)
    people = describe_units(joined(brightened(study, some), tmp_path), "train")
    encoded = encode_covariates(people, people, ("brightness",))
    assert np.isfinite(encoded).all()
    assert encoded[:, 1].sum() == 1


def measured(study: Study) -> Measurements:
    """HbA1c follows the class, BMI does not."""
    group = study.people["study_group"].map(TASKS["four-class"].class_of).to_numpy(np.float64)
    rng = np.random.default_rng(0)
    hba1c, bmi = 5.4 + group + rng.normal(0, 0.2, len(group)), rng.normal(30, 5, len(group))
    return Measurements(pd.DataFrame({"participant": study.people["participant_id"], "hba1c": hba1c, "bmi": bmi}), {})


def reasons(cohort: Cohort) -> dict[str, str]:
    return {
        line["name"]: line["reason"]
        for line in choose_baselines(TASKS["four-class"], describe_units(cohort, "train"))[1]
    }


def test_hba1c_is_a_ceiling_and_bmi_a_baseline(tmp_path: Path) -> None:
    study = make_study(96)
    cohort = joined(study, tmp_path, measured(study))
    assert macro_auroc(cohort, CEILING) > 0.95
    assert macro_auroc(cohort, "BMI") < 0.7
    assert not {"hba1c", "bmi"} & set(cohort.table.columns)
    assert cohort.sha256 == joined(study, tmp_path).sha256


def test_without_measurements_the_ceiling_is_absent_with_its_reason(tmp_path: Path) -> None:
    study = make_study(64)
    found = reasons(joined(study, tmp_path))
    assert found[CEILING] == found["BMI"] == "--measurements was not given"
    nobody = replace(measured(study), table=measured(study).table.assign(hba1c=np.nan))
    found = reasons(joined(study, tmp_path, nobody))
    assert found[CEILING] == "no participant of train has a usable hba1c"
    assert "BMI" not in found


DIABETES_WORDS = ("hba1c", "HbA1c", "a1c", "glucose", "insulin", "c_peptide", "C-peptide", "cpeptide", "diabetes")


@pytest.mark.parametrize("name", [*DIABETES_WORDS, "study_group", "medication"])
def test_what_makes_the_label_is_no_covariate(name: str) -> None:
    with pytest.raises(LeakError, match=f"covariate {name}: refused"):
        refuse_label_defining(("age", name), TASKS["four-class"])


def test_only_the_ceiling_is_fitted_on_hba1c() -> None:
    assert [name for name, columns in baselines_of(TASKS["four-class"]).items() if "hba1c" in columns] == [CEILING]


def test_one_site_says_nothing_and_is_absent() -> None:
    train = people(40).assign(site="UAB")
    names, missing = choose_baselines(TASKS["four-class"], train)
    assert "site" not in names
    assert "age" in names
    for name in ("site", "age+site", "embedding+age+site"):
        assert {"name": name, "reason": "everybody in train is of one site (UAB)"} in missing
