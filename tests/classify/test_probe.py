"""The verb as a whole: what it writes, what it never touches, what it cannot find where nothing is."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.cohort.tasks import TASKS
from classify.errors import RunFolderError
from classify.fitting.model import load_model
from classify.fitting.source import features_of_run, source_of_run
from classify.heads import HEADS, load_head
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions
from embeddings_store.errors import UsageError

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)

BESIDE = {"dummy", "age", "site", "age+site"}


def run(study: Study, folder: Path, model: str = "linear", **options: Any) -> Probed:
    folder.mkdir(exist_ok=True)
    asked = {"replicates": 50, "jobs": 1, "runs": folder / "runs", "participants": study.write(folder)} | options
    return probe(ProbeOptions(store="store", model=model, **asked), now=NOW, read=lambda *_: study.stored)


def test_every_stage_has_its_seconds_and_they_make_up_the_whole(tmp_path: Path) -> None:
    said = list[str]()
    study = make_study(seed=3)
    options = ProbeOptions(store="store", model="linear", replicates=50, runs=tmp_path, robustness=True, seeds=2,
                           participants=study.write(tmp_path))  # fmt: skip
    seconds = probe(options, read=lambda *_: study.stored, tell=said.append).record.made.seconds
    *stages, last = seconds
    assert stages == ["read", "search", "fit", "held_out", "calibrate", "covariates", "evaluate", "novelty", "nuisance",
                      "robustness", "seeds", "save"]  # fmt: skip
    assert last == "wall"
    assert sum(seconds[stage] for stage in stages) == pytest.approx(seconds["wall"], rel=0.01, abs=0.01)
    assert float(said[-1].partition(" s: ")[0]) > seconds["wall"] - 0.1  # the record is written before it is said
    assert all(f"{stage} " in said[-1] for stage in stages)


def same_numbers(one: Probed, two: Probed) -> bool:
    unlike = {"id", "seconds", "command", "inputs_sha256", "model_sha256"}
    first, second = (done.record.to_dict() for done in (one, two))
    return all(first[name] == second[name] for name in first.keys() - unlike)


@pytest.mark.usefixtures("little_held_out")
@pytest.mark.parametrize("model", [name for name, head in HEADS.items() if not head.reads_tokens])
def test_a_run_folder_is_complete(study: Study, tmp_path: Path, model: str) -> None:
    done = run(study, tmp_path, model)
    assert done.folder.name.startswith(f"20261122-150301-{model}-four-class-")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [done.record.id]
    loaded = load_run(done.folder)
    assert loaded.record == done.record
    assert loaded.record.asked.phantom is True
    beside = BESIDE if model == "dummy" else BESIDE | {"embedding+age+site"}
    assert set(loaded.predictions["model"]) == beside | {model}
    assert loaded.predictions.duplicated(["model", "level", "unit"]).sum() == 0
    features = features_of_run(loaded, study.stored)
    val = features.only("val")
    expected = pick_predictions(loaded.predictions, model=model, level="volume", split="val")
    assert val.volume.tolist() == expected.unit.tolist()
    probability = load_head(done.folder / "model").predict_proba(val.x)
    np.testing.assert_allclose(probability, expected.scores, atol=1e-9)


def test_features_say_what_they_are_and_a_wrong_call_is_refused(study: Study, tmp_path: Path) -> None:
    loaded = load_run(run(study, tmp_path).folder)
    model, head = load_model(loaded), load_head(loaded.folder / "model")
    expected = pick_predictions(loaded.predictions, model="linear", level="volume", split="val")
    raw = source_of_run(loaded, study.stored).table(model.features).only("val")
    standardised = features_of_run(loaded, study.stored).only("val")
    found = model.predict(raw, classes=4, split="val")["volume"]
    np.testing.assert_allclose(found.probability, expected.scores, atol=1e-9)
    np.testing.assert_allclose(head.predict_proba(standardised.x), expected.scores, atol=1e-9)
    table = study.stored.frame("last", "mean")
    frame = table.filter(like="last_mean_")
    assert np.abs(model.head.predict_proba(raw.x) - expected.scores).max() > 0.1  # what silence would cost
    for wrong in (
        lambda: model.predict(standardised, classes=4, split="val"),
        lambda: model.predict_standardised(raw, classes=4, split="val"),
        lambda: standardised.standardised(model.standardiser),
        lambda: head.predict_proba(table),
        lambda: head.predict_proba(frame),
        lambda: head.predict_proba(frame.iloc[:5]),
        lambda: model.head.predict_proba(frame),
        lambda: head.predict_proba(frame.to_numpy()),
        lambda: head.predict_proba(raw.x),
    ):
        with pytest.raises(UsageError, match=r"expected .*(raw|standardised)"):
            wrong()


def test_the_record_has_the_fields_that_reports_read(study: Study, tmp_path: Path) -> None:
    record = json.loads((run(study, tmp_path).folder / "run.json").read_text())
    assert record["created"] == "2026-11-22T15:03:01+00:00"
    assert record["snapshot"] == {"number": 1, "rows": 256, "note": "snapshot 1"}
    assert record["splits"]["val"]["per_class"] == dict.fromkeys(TASKS["four-class"].classes, 4)
    assert record["features"]["dimensions"] == 6
    for level in ("volume", "eye", "participant"):
        measured = record["metrics"][level]["val"]["balanced_accuracy"]
        assert measured["low"] <= measured["value"] <= measured["high"]
    assert set(record["baselines"]) == BESIDE | {"embedding+age+site"}
    assert set(record["added_to_age_site"]) == set(record["difference_to_age_site"])
    assert {line["name"] for line in record["baselines_missing"]} >= {"HbA1c (ceiling)", "random-initialised twin"}
    assert len(record["probes_of_nuisance"]) == 10
    assert {line["by"] for line in record["subgroups"]["val"]} == {"site", "device", "protocol", "eye", "age_band"}
    assert set(record["contrasts"]["val"]) == {"healthy-vs-rest", "medicated-vs-not", "insulin-vs-rest"}
    assert record["permutation"]["val"]["p_values"]["macro_auroc"]["value"] < 0.05
    calibration = record["calibration"]
    assert calibration["fitted_on"] == "out-of-fold predictions of train"
    assert calibration["judged_on"] == "val"
    assert sum(calibration["prevalence"].values()) == pytest.approx(1)
    assert set(calibration["levels"]) == {"volume", "eye", "participant"}
    assert set(calibration["levels"]["participant"]["by_class"]) == set(TASKS["four-class"].classes)
    assert set(record["difference_to_age_site"]) == {"balanced_accuracy", "macro_auroc"}
    assert np.sum(record["confusion"]["participant"]) == 16


@pytest.mark.usefixtures("little_held_out")
@pytest.mark.parametrize("model", ["linear", "lgbm", "mlp"])
def test_heads_find_an_effect_beyond_age_and_site(tmp_path: Path, model: str) -> None:
    done = run(make_study(96, effect=2.0), tmp_path, model)
    assert done.record.judged.metrics["participant"]["val"]["macro_auroc"].value > 0.8
    assert done.record.judged.difference_to_age_site["macro_auroc"].low > 0


@pytest.mark.parametrize("model", ["linear", "lgbm", "mlp"])
def test_shuffled_labels_stay_at_chance(tmp_path: Path, model: str) -> None:
    study = make_study(160, effect=2.0)
    rng = np.random.default_rng(5)
    study.people["study_group"] = rng.permutation(study.people["study_group"])
    measured = run(study, tmp_path, model).record.judged.metrics["participant"]["val"]["macro_auroc"]
    assert measured.low < 0.5 < measured.high


@pytest.mark.parametrize("model", ["linear", "lgbm", "mlp"])
def test_a_phantom_without_an_effect_stays_at_chance(tmp_path: Path, model: str) -> None:
    measured = run(make_study(160, effect=0.0, seed=2), tmp_path, model).record.judged.metrics["participant"]["val"]
    assert measured["macro_auroc"].low < 0.5 < measured["macro_auroc"].high


@pytest.mark.parametrize("model", ["linear", "lgbm"])
def test_the_same_seed_gives_the_same_numbers(study: Study, tmp_path: Path, model: str) -> None:
    assert same_numbers(run(study, tmp_path, model, seed=3), run(study, tmp_path, model, seed=3))


def test_the_order_of_the_rows_does_not_matter(study: Study, tmp_path: Path) -> None:
    before = run(study, tmp_path)
    order = np.random.default_rng(1).permutation(len(study.stored.index))
    index = study.stored.index.iloc[order].reset_index(drop=True)
    stored = replace(study.stored, index=index, pooled=study.stored.pooled[order])
    people = study.people.sample(frac=1, random_state=2)
    assert same_numbers(before, run(Study(people, stored), tmp_path))


@pytest.mark.parametrize("split", ["val", "test"])
def test_val_and_test_do_not_change_the_model(study: Study, tmp_path: Path, split: str) -> None:
    before = run(study, tmp_path / "before")
    owner = study.people.set_index("participant_id")["recommended_split"]
    rows = (owner[study.stored.index["participant"]] == split).to_numpy()
    study.stored.pooled[rows] += np.random.default_rng(0).normal(3, 9, study.stored.pooled[rows].shape).astype("f4")
    after = run(study, tmp_path / "after")
    for name in ("head.npz", "standardiser.npz"):
        one, two = (np.load(done.folder / "model" / name) for done in (before, after))
        assert all((one[array] == two[array]).all() for array in one.files)
    # Digests of vectors, and how alike those of all participants are.
    same = [
        replace(done, record=replace(done.record, cohort=replace(done.record.cohort, test_people={}, flow=[])))
        for done in (before, after)
    ]
    assert same_numbers(*same) is (split == "test")


def test_the_test_split_is_counted_and_never_predicted(study: Study, tmp_path: Path) -> None:
    done = run(study, tmp_path)
    assert done.record.cohort.splits["test"]["participants"] == 16
    loaded = load_run(done.folder)
    assert set(loaded.predictions["split"]) == {"val"}
    locked = set(loaded.cohort.loc[loaded.cohort["split"] == "test", "participant"])
    assert not locked & set(loaded.predictions["participant"])


def test_trials_are_recorded(study: Study, tmp_path: Path) -> None:
    done = run(study, tmp_path, "lgbm", trials=2)
    assert done.record.fitted.search is not None
    assert done.record.fitted.search["trials"] == 2
    assert done.record.fitted.search["best"]["parameters"].items() <= done.record.fitted.parameters.items()


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_runs(study: Study, tmp_path: Path, task: str) -> None:
    record = run(study, tmp_path, task=task).record
    assert record.asked.classes == list(TASKS[task].classes)
    assert np.array(record.judged.confusion["participant"]).shape == (len(record.asked.classes),) * 2


def test_a_refused_request_leaves_nothing_behind(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(study, tmp_path, layer="11")
    with pytest.raises(UsageError):
        run(study, tmp_path, "dummy", trials=5)
    assert list(tmp_path.glob("runs/*")) == list(tmp_path.glob("runs/.*")) == []


def test_an_unfinished_run_folder_is_no_run(study: Study, tmp_path: Path) -> None:
    done = run(study, tmp_path, "dummy")
    (done.folder / "run.json").unlink()
    with pytest.raises(RunFolderError, match=r"run\.json cannot be read"):
        load_run(done.folder)


def test_features_of_another_space_are_refused(study: Study, tmp_path: Path) -> None:
    loaded = load_run(run(study, tmp_path, "dummy").folder)
    other = replace(study.stored, space=replace(study.stored.space, precision="bf16"))
    with pytest.raises(RunFolderError, match="embedding space"):
        features_of_run(loaded, other)
