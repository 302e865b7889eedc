"""Predicting with a finished run: the run's own numbers again, strangers marked, nobody dropped, test locked."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.errors import CohortError, RunFolderError
from classify.options import ProbeOptions
from classify.predict import predict, predict_volumes_of
from classify.probe import probe
from classify.run.folder import Run, load_run
from classify.run.predictions import pick_predictions
from classify.run_options import PredictOptions
from embeddings_store.errors import UsageError
from embeddings_store.publish import place_aside
from embeddings_store.schema import Note, volume_id
from embeddings_store.snapshot import Snapshot

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
CLASSES = ("healthy", "pre_diabetes_lifestyle_controlled")


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(160, effect=1.0)


@pytest.fixture(scope="module")
def run(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("predict")
    options = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(folder),
        task="healthy-vs-rest",
        replicates=20,
        runs=folder / "runs",
    )
    return load_run(probe(options, now=NOW, read=lambda *_: study.stored).folder)


def strangers(study: Study, *, shift: float = 0.0, seed: int = 77) -> Snapshot:
    """People whom no run has seen, of the same kind unless shifted; nobody knows their labels."""
    new = make_study(120, effect=0.5, seed=seed).stored
    index = new.index.assign(
        participant=[f"9{person[1:]}" for person in new.index["participant"]],
        volume=[volume_id(f"new/{key}") for key in new.index["key"]],
    )
    return replace(study.stored, pooled=new.pooled + np.float32(shift), index=index)


def ask(run: Run, stored: Snapshot, folder: Path, **options: Any) -> pd.DataFrame:
    asked = {"out": folder / "out.parquet"} | options
    done = predict(PredictOptions(store="store", run=run.folder, **asked), read=lambda *_: stored)
    json.dumps(done.summary, allow_nan=False)
    return done.table


def of(table: pd.DataFrame, level: str) -> pd.DataFrame:
    return table[table["level"] == level].set_index("unit")


def test_a_second_writer_to_the_same_table_is_refused(run: Run, study: Study, tmp_path: Path) -> None:
    with place_aside(tmp_path / "out.parquet"), pytest.raises(UsageError, match="another process is writing there"):
        ask(run, study.stored, tmp_path)
    with place_aside(tmp_path / "other.parquet"):
        assert len(ask(run, study.stored, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("level", ["volume", "eye", "participant"])
def test_the_val_volumes_of_the_run_get_the_numbers_of_the_run(
    run: Run, study: Study, tmp_path: Path, level: str
) -> None:
    table = of(ask(run, study.stored, tmp_path), level)
    stored = pick_predictions(run.predictions, model="linear", level=level, split="val")
    found = table.loc[stored.unit, ["probability_healthy", "probability_rest"]].to_numpy(np.float64)
    np.testing.assert_allclose(found, stored.probability, atol=1e-9)
    assert not np.allclose(found, stored.scores, atol=1e-4)
    names = np.array(["healthy", "rest"])
    assert (table.loc[stored.unit, "predicted"] == names[stored.probability.argmax(axis=1)]).all()
    assert (table.loc[stored.unit, "predicted_at_equal_shares"] == names[stored.scores.argmax(axis=1)]).all()


def test_probabilities_can_be_stated_at_the_prevalence_of_another_place(run: Run, study: Study, tmp_path: Path) -> None:
    """Odds change by the ratio of the prior odds, the order of people does not."""
    new = strangers(study)
    own, there = (
        of(ask(run, new, tmp_path, **asked), "participant")["probability_rest"].to_numpy(np.float64)
        for asked in ({}, {"prevalence": "healthy=0.98,rest=0.02"})
    )
    shares = run.record.fitted.calibration["prevalence"]
    ratio = (0.02 / 0.98) / (shares["rest"] / shares["healthy"])
    np.testing.assert_allclose(there / (1 - there), ratio * own / (1 - own), rtol=1e-6)
    assert there.mean() < own.mean() / 2


@pytest.mark.parametrize(
    "asked", ["healthy=0.9", "healthy=0.9,rest=0.2", "healthy=1,rest=0", "healthy=a,rest=0.5", "x=0.5,rest=0.5", ""]
)
def test_a_prevalence_that_cannot_be_is_one_message(run: Run, study: Study, tmp_path: Path, asked: str) -> None:
    with pytest.raises(UsageError, match="--prevalence"):
        ask(run, study.stored, tmp_path, prevalence=asked)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("name", ["device", "protocol"])
def test_a_device_or_protocol_that_training_did_not_hold_is_not_answered(
    run: Run, study: Study, tmp_path: Path, name: str
) -> None:
    new = strangers(study)
    some = new.index["participant"].isin(sorted(new.index["participant"].unique())[:20])
    index = new.index.assign(**{name: new.index[name].mask(some, "unheard_of")})
    for stored, unknown in ((replace(new, index=index), 20), (replace(new, index=index.assign(**{name: "new"})), 120)):
        people = of(ask(run, stored, tmp_path), "participant")
        strange = people["reason"].str.startswith(f"unknown {name}")
        assert strange.sum() == unknown
        assert people.loc[strange, "abstain"].all()
        assert people.loc[strange, ["predicted", "probability_rest"]].isna().all().all()
        assert people.loc[~strange, "predicted"].notna().all()
        answered = of(ask(run, stored, tmp_path, answer_unknown=True), "participant")
        assert answered["predicted"].notna().all()
        shown = of(
            predict_volumes_of(run, stored, PredictOptions(store="store", run=run.folder, show_unknown=True)),
            "participant",
        )
        assert shown["predicted"].notna().all()
        assert (shown.loc[strange, "abstain"] & shown.loc[strange, "reason"].str.contains(f"unknown {name}")).all()


def test_a_run_that_cannot_be_calibrated_gives_the_prevalence_and_abstains(tmp_path: Path) -> None:
    study = make_study(160, effect=0.0, seed=2)
    options = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(tmp_path),
        task="healthy-vs-rest",
        replicates=20,
        runs=tmp_path / "r",
    )
    done = probe(options, now=NOW, read=lambda *_: study.stored)
    assert done.record.fitted.calibration is not None
    assert done.record.fitted.calibration["method"] == "constant"
    assert "no more than the class shares" in done.record.fitted.calibration["why_constant"]
    people = of(ask(load_run(done.folder), strangers(study), tmp_path), "participant")
    np.testing.assert_allclose(
        people["probability_rest"].to_numpy(np.float64), done.record.fitted.calibration["prevalence"]["rest"], atol=1e-9
    )
    assert people["abstain"].all()
    assert people["reason"].str.startswith("no calibration possible").all()


def test_a_store_without_labels_is_enough(run: Run, study: Study, tmp_path: Path) -> None:
    table = ask(run, strangers(study), tmp_path)
    assert {level: len(part) for level, part in table.groupby("level")} == {
        "volume": 480,
        "eye": 240,
        "participant": 120,
    }
    np.testing.assert_allclose(table["probability_healthy"] + table["probability_rest"], 1.0)
    assert set(table["split_of_run"]) == {""}
    saved = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(saved, table)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_the_test_participants_of_the_run_stay_locked(run: Run, study: Study, tmp_path: Path) -> None:
    locked = set(run.cohort.loc[run.cohort["split"] == "test", "participant"])
    table = ask(run, study.stored, tmp_path)
    held = table[table["participant"].isin(locked)]
    assert len(held) == 40 * (1 + 2 + 4)
    assert held["abstain"].all()
    assert held["reason"].str.startswith("locked").all()
    assert held[["probability_healthy", "predicted", "ood_percentile", "nearest_1_volume"]].isna().all().all()
    opened = replace(
        run,
        record=replace(run.record, evaluations=[{"date": "2026-11-22", "split": "test"}]),
        folder=tmp_path / run.folder.name,
    )
    (tmp_path / run.folder.name).symlink_to(run.folder)
    shown = predict_volumes_of(opened, study.stored, PredictOptions(store="store", run=run.folder))
    assert shown.loc[shown["participant"].isin(locked), "probability_healthy"].notna().all()


def test_strangers_are_marked_and_their_like_are_not(run: Run, study: Study, tmp_path: Path) -> None:
    like, unlike = (of(ask(run, strangers(study, shift=shift), tmp_path), "volume") for shift in (0.0, 15.0))
    assert like["out_of_distribution"].mean() < 0.04
    assert unlike["out_of_distribution"].all()
    assert unlike["reason"].str.contains("out of distribution: farther than 100.0 % of train").all()
    people = of(ask(run, strangers(study, shift=15.0), tmp_path, abstain_below=0.0), "participant")
    assert people["abstain"].all()
    assert not of(ask(run, strangers(study, shift=15.0), tmp_path, ood_percentile=100.0, abstain_below=0.0), "volume")[
        "abstain"
    ].any()


def test_training_volumes_are_their_own_nearest_and_no_strangers(run: Run, study: Study, tmp_path: Path) -> None:
    table = of(ask(run, study.stored, tmp_path), "volume")
    train = table[table["split_of_run"] == "train"]
    assert (train["nearest_1_volume"] == train.index).all()
    assert (train["nearest_1_participant"] == train["participant"]).all()
    assert train["nearest_1_distance"].max() < 1e-3
    assert train["ood_percentile"].isna().all()
    assert not train["out_of_distribution"].any()
    label = run.cohort.drop_duplicates("participant").set_index("participant")["label"]
    expected = [("healthy", "rest")[label[person]] for person in table.loc[train.index, "nearest_2_participant"]]
    assert train["nearest_2_class"].tolist() == expected
    val = table[table["split_of_run"] == "val"]
    assert val["ood_percentile"].notna().all()
    assert set(val["nearest_1_participant"]) <= set(run.cohort.loc[run.cohort["split"] == "train", "participant"])


def test_the_run_abstains_where_it_is_not_sure(run: Run, study: Study, tmp_path: Path) -> None:
    table = ask(run, strangers(study), tmp_path, abstain_below=0.8, ood_percentile=100.0)
    unsure = table["confidence"] < 0.8
    assert 0.05 < unsure.mean() < 0.95
    assert (table["abstain"] == unsure).all()
    assert table.loc[unsure, "reason"].str.fullmatch(r"confidence 0\.\d\d below 0\.8").all()
    assert (table.loc[~unsure, "reason"] == "").all()
    assert not ask(run, strangers(study), tmp_path, abstain_below=0.0, ood_percentile=100.0)["abstain"].any()


def test_what_cannot_be_predicted_stays_with_its_reason(run: Run, study: Study, tmp_path: Path) -> None:
    stored = strangers(study)
    clean = ask(run, stored, tmp_path)
    index, pooled = stored.index.copy(), stored.pooled.copy()
    order = index.sort_values(["participant", "volume"]).index
    places = {reason: order[place] for place, reason in enumerate(("constant", "not finite", "", "copy"))}
    assert len(set(index.loc[list(places.values()), "participant"])) == 1
    index.loc[places["constant"], "notes"] |= int(Note.CONSTANT)
    pooled[places["not finite"], 0, 0, 0] = np.nan
    pooled[places["copy"]] = pooled[places[""]]
    index.loc[order[4], "notes"] |= int(Note.NO_SPACING)
    index.loc[order[5], "protocol"] = "unheard_of"
    table = ask(run, replace(stored, index=index, pooled=pooled), tmp_path)
    volumes = of(table, "volume")
    for reason in ("constant", "not finite", "copy"):
        line = volumes.loc[index.loc[places[reason], "volume"]]
        assert line["abstain"]
        assert line["reason"].startswith(reason)
        assert np.isnan(line["confidence"])
    assert "no spacing" in volumes.loc[index.loc[order[4], "volume"], "flags"].split("; ")
    assert "protocol not in training" in volumes.loc[index.loc[order[5], "volume"], "flags"].split("; ")
    assert "synthetic" in volumes["flags"].iloc[9]
    assert len(table) == len(clean)
    person = index.loc[order[0], "participant"]
    alone = volumes.loc[index.loc[places[""], "volume"]]
    line = of(table, "participant").loc[person]
    assert line["volumes"] == 1
    assert "constant" in line["flags"]
    # One scan of one eye is all that is left, so the calibrated answer of the person rests on it.
    assert line["predicted"] == alone["predicted"]
    eyes = of(table, "eye")
    gone = eyes.loc[[unit for unit in eyes.index if unit.startswith(person)]]
    assert gone["predicted"].isna().sum() + (gone["volumes"] > 0).sum() == 2


def test_a_person_with_no_usable_scan_keeps_a_line(run: Run, study: Study, tmp_path: Path) -> None:
    stored = strangers(study)
    index = stored.index.copy()
    person = index["participant"].iloc[0]
    index.loc[index["participant"] == person, "notes"] |= int(Note.CONSTANT)
    line = of(ask(run, replace(stored, index=index), tmp_path), "participant").loc[person]
    assert (line["volumes"], line["abstain"]) == (0, True)
    assert line["reason"].startswith("constant: every voxel")
    index["notes"] |= int(Note.CONSTANT)
    with pytest.raises(CohortError, match=r"no volume can be predicted \(480 constant\)"):
        ask(run, replace(stored, index=index), tmp_path)


def test_brightness_far_from_training_is_flagged(study: Study, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("intensity_mean", "intensity_sd", "intensity_p01", "intensity_p50", "intensity_p99")

    def lit(stored: Snapshot, factor: float) -> Snapshot:
        return replace(
            stored, index=stored.index.assign(**{name: factor * rng.normal(60, 5, len(stored.index)) for name in names})
        )

    bright = lit(study.stored, 1.0)
    options = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(tmp_path),
        task="healthy-vs-rest",
        replicates=20,
        runs=tmp_path / "r",
    )
    run = load_run(probe(options, now=NOW, read=lambda *_: bright).folder)
    like, dark = (of(ask(run, lit(strangers(study), factor), tmp_path), "volume")["flags"] for factor in (1.0, 0.3))
    assert dark.str.contains("intensity far outside training").all()
    assert like.str.contains("intensity far outside training").mean() < 0.01


def test_a_store_that_keeps_other_things_of_the_same_vectors_is_read(run: Run, study: Study, tmp_path: Path) -> None:
    space = replace(study.stored.space, token_grid=(1, 1, 1))
    kept = replace(study.stored, space=space)
    assert kept.space_id != study.stored.space_id
    expected, found = ask(run, study.stored, tmp_path), ask(run, kept, tmp_path)
    assert expected.drop(columns="space", errors="ignore").equals(found.drop(columns="space", errors="ignore"))


def test_a_store_of_another_space_is_one_message(run: Run, study: Study, tmp_path: Path) -> None:
    other = replace(study.stored, space=replace(study.stored.space, weights_sha256="1" * 64))
    with pytest.raises(RunFolderError, match=f"made in the embedding space {run.record.asked.space}, the store holds"):
        ask(run, other, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_and_levels(run: Run, study: Study, tmp_path: Path) -> None:
    done = predict(
        PredictOptions(store="store", run=run.folder, out=tmp_path / "out.csv", participants_only=True),
        read=lambda *_: strangers(study),
    )
    saved = pd.read_csv(tmp_path / "out.csv", dtype={"participant": str})
    assert set(saved["level"]) == {"participant"}
    assert "eye" not in saved
    assert len(saved) == done.summary["levels"]["participant"]["lines"] == 120
    with pytest.raises(UsageError, match=r"ends in \.parquet or \.csv"):
        ask(run, study.stored, tmp_path, out=tmp_path / "out.xlsx")
    with pytest.raises(RunFolderError, match="expected a file that can be written"):
        ask(run, study.stored, tmp_path, out=tmp_path / "nowhere" / "out.csv")


def test_a_run_without_its_reference_says_what_to_do(run: Run, study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(folder / "model" / "reference")
    with pytest.raises(RunFolderError, match="make the run again"):
        ask(load_run(folder), study.stored, tmp_path)
