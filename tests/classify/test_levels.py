"""A label belongs to a participant, an eye or a scan, and that unit is judged: never an average of two labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study
from sklearn import metrics as peer

from classify.cohort.splits import strata_of
from classify.errors import CohortError
from classify.evaluate import EvaluateOptions, evaluate
from classify.judging.calibrate import load_calibrator
from classify.options import ProbeOptions
from classify.predict import predict_volumes_of
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions
from classify.run_options import AnswerOptions
from embeddings_store.schema import Note


def planted(folder: Path, level: str, *, people: int = 96, effect: float = 2.5) -> tuple[Study, Path]:
    """Make vectors in which each eye (or each scan) carries a label of its own, and the table of these labels."""
    study = make_study(people, effect=0.0)
    index, rng = study.stored.index, np.random.default_rng(3)
    name = "eye" if level == "eye" else "volume"
    unit = index["participant"] + ":" + index[name] if level == "eye" else index["volume"]
    ill = dict(zip(sorted(set(unit)), rng.random(unit.nunique()) < 0.4, strict=True))
    label = unit.map(ill).to_numpy()
    study.stored.pooled[:, :, :, 0] += effect * label[:, None, None]
    split = study.people.set_index("participant_id")["recommended_split"].loc[index["participant"]].to_numpy()
    table = pd.DataFrame({"participant": index["participant"], "split": split, "dme": np.where(label, "yes", "no")})
    table[{"eye": "eye", "scan": "file"}[level]] = index["eye" if level == "eye" else "key"].to_numpy()
    path = folder / "labels.csv"
    table.drop_duplicates().to_csv(path, index=False)
    return study, path


def probed(study: Study, folder: Path, labels: Path, **more: Any) -> Probed:
    asked = {"model": "linear", "store": "s", "labels": labels, "target": "dme", "runs": folder / "runs"}
    return probe(ProbeOptions(**{**asked, "replicates": 200, **more}), read=lambda *_: study.stored, tell=print)


@pytest.mark.parametrize(("level", "judged"), [("eye", "eye"), ("scan", "volume")])
def test_the_unit_of_the_label_is_judged_and_no_other(tmp_path: Path, level: str, judged: str) -> None:
    study, labels = planted(tmp_path, level)
    made = probed(study, tmp_path, labels)
    record = made.record
    assert list(record.judged.metrics)[-1] == judged
    assert "participant" not in record.judged.metrics
    found = pick_predictions(load_run(made.folder).predictions, model="linear", level=judged, split="val")
    measured = record.judged.metrics[judged]["val"]
    assert measured["macro_auroc"].value == pytest.approx(peer.roc_auc_score(found.label, found.scores[:, 1]), abs=1e-9)
    assert measured["macro_auroc"].value > 0.8
    assert (
        len(found.unit)
        == record.cohort.splits["val"]["per_class"]["no"] + record.cohort.splits["val"]["per_class"]["yes"]
    )
    per_person = pd.Series(found.label).groupby(found.participant).nunique()
    assert (per_person > 1).any(), "some people have both labels, or the test says nothing"
    groups = {line["value"]: line for line in record.judged.subgroups["val"] if line["by"] in ("eye", "device")}
    for line in groups.values():
        assert line["participants"] == len(set(found.participant))
        assert sum(line["per_class"].values()) >= line["participants"], "units of a group, several of a person"
    own = pd.Series(found.participant).groupby(found.label).nunique()
    assert list(record.cohort.splits["val"]["participants_per_class"].values()) == own.tolist()


def test_an_eye_task_is_evaluated_and_predicts_eyes(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "eye")
    made = probed(study, tmp_path, labels)
    options = EvaluateOptions(run=made.folder, store="s", labels=labels, split="test", runs=tmp_path / "runs")
    seen = evaluate(options, read=lambda *_: study.stored, tell=print)
    assert seen.record.judged.metrics["eye"]["test"]["macro_auroc"].value > 0.8
    table = predict_volumes_of(load_run(made.folder), study.stored, AnswerOptions())
    assert list(dict.fromkeys(table["level"])) == ["volume", "eye"]
    assert table.loc[table["level"] == "eye", "unit"].str.contains(":").all()
    study.stored.index["device"] = "one that the run has not seen"
    nothing = predict_volumes_of(load_run(made.folder), study.stored, AnswerOptions())
    assert "participant" not in set(nothing["level"])


@pytest.mark.usefixtures("little_held_out")
@pytest.mark.parametrize(("level", "model"), [("eye", "mil"), ("eye", "knn"), ("scan", "lgbm"), ("eye", "dummy")])
def test_every_head_learns_and_judges_at_the_level(tmp_path: Path, level: str, model: str) -> None:
    study, labels = planted(tmp_path, level)
    more = {} if model in {"mil", "dummy"} else {"aggregate": "mean-features"}
    measured = probed(study, tmp_path, labels, model=model, **more).record.judged.metrics
    assert (measured[{"eye": "eye", "scan": "volume"}[level]]["val"]["macro_auroc"].value > 0.6) == (model != "dummy")


def test_labels_without_effect_stay_at_chance_at_the_level(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "eye", effect=0.0)
    measured = probed(study, tmp_path, labels).record.judged.metrics["eye"]["val"]["macro_auroc"]
    assert measured.low < 0.5 < measured.high


def test_labels_of_eyes_need_a_store_that_knows_eyes(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "eye", people=24)
    study.stored.index["eye"] = "U"
    with pytest.raises(CohortError, match="expected the eye of its volumes, since the labels are of eyes"):
        probed(study, tmp_path, labels)
    assert Note.NONE.value == 0


def test_labels_and_store_must_know_the_same_people(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "scan", people=24)
    first, second, *_ = sorted(set(study.stored.index["participant"]))
    table = pd.read_csv(labels, dtype=str)
    table["participant"] = table["participant"].replace(second, first)
    table.loc[table["participant"] == first, "split"] = "train"
    table.to_csv(labels, index=False)
    with pytest.raises(CohortError, match=f"1 participants, such as {first}, have scans that the store keeps under"):
        probed(study, tmp_path, labels)


def test_a_site_that_is_asked_for_is_no_covariate_and_a_name_of_the_store_is_none(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "eye")
    table = pd.read_csv(labels, dtype=str)
    table["clinical_site"] = np.where(table["dme"] == "yes", "North", "South")
    table["device"] = "X"
    table.to_csv(labels, index=False)
    made = probed(study, tmp_path, labels, target="clinical_site", positive="North")
    assert "site" not in made.record.to_dict()["baselines"]
    with pytest.raises(CohortError, match="covariate device: the store has a column of that name"):
        probed(study, tmp_path, labels, covariates=("device",))


@pytest.mark.parametrize("level", ["eye", "scan"])
def test_prevalence_and_calibration_count_what_is_judged(tmp_path: Path, level: str) -> None:
    study, labels = planted(tmp_path, level)
    made = probed(study, tmp_path, labels)
    counts = [made.record.cohort.splits[split]["per_class"] for split in ("train", "val")]
    of_both = sum(one["yes"] for one in counts) / sum(sum(one.values()) for one in counts)
    assert made.record.to_dict()["calibration"]["prevalence"]["yes"] == pytest.approx(of_both, abs=1e-12)
    calibrator = load_calibrator(made.folder / "model")
    train = counts[0]
    assert calibrator.shares[1] == pytest.approx((train["yes"] + 0.5) / (sum(train.values()) + 1), abs=1e-12)


def test_labels_of_other_scans_are_refused(tmp_path: Path) -> None:
    study, labels = planted(tmp_path, "scan", people=24)
    labels.write_text(labels.read_text().replace(".dcm", ".png"))
    with pytest.raises(CohortError, match="of which 0 are among"):
        probed(study, tmp_path, labels)


def test_a_person_with_two_labels_counts_as_the_rarer() -> None:
    label, person = np.array([0, 0, 1, 0, 1, 0, 0, 2]), np.array([0, 0, 1, 2, 2, 3, 4, 4])
    assert strata_of(label, person).tolist() == [0, 1, 1, 0, 2]
    assert strata_of(np.arange(10.0), np.arange(10)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
