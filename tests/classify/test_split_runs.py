"""Runs on made splits: kept after the checks, used by the verbs that follow, locked as any other split is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.cohort.made_splits import SPLITS_FILE
from classify.errors import LeakError
from classify.evaluate import evaluate
from classify.judge_baselines import judge_baselines
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.ledger import read_ledger
from classify.run_options import BaselineOptions, EvaluateOptions
from embeddings_store.errors import OctProbeError

SHARES = (60.0, 20.0, 20.0)


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(40, effect=1.0)


def write(folder: Path, study: Study, **columns: object) -> Path:
    case = np.array([group != min(study.people["study_group"]) for group in study.people["study_group"]])
    table = pd.DataFrame({"participant": study.people["participant_id"], "dr": np.where(case, "yes", "no")})
    table.assign(**columns).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def run(study: Study, folder: Path, **given: object) -> Probed:
    words = {"model": "dummy", "runs": folder / "runs", "replicates": 20} | given
    asked = ProbeOptions(store="x", labels=folder / "labels.csv", target="dr", **words)  # type: ignore[arg-type]
    return probe(asked, read=lambda *_: study.stored, tell=lambda _: None)


def test_made_splits_are_used_by_later_runs_and_their_test_is_locked(study: Study, tmp_path: Path) -> None:
    write(tmp_path, study)
    first = run(study, tmp_path, make_splits=SHARES)
    assert first.record.cohort.splits_from["kind"] == "made"
    second = run(study, tmp_path)
    assert second.record.cohort.splits_from["kind"] == "kept"
    assert second.record.cohort.cohort_sha256 == first.record.cohort.cohort_sha256
    assert len(first.record.cohort.test_people) == first.record.cohort.splits["test"]["participants"] == 8
    asked = EvaluateOptions(
        run=second.folder,
        store="x",
        split="test",
        labels=tmp_path / "labels.csv",
        runs=tmp_path / "runs",
        replicates=20,
    )
    done = evaluate(asked, read=lambda *_: study.stored, tell=lambda _: None)
    assert done.looks == 1
    assert len(read_ledger(tmp_path / "runs").lines) == 1
    (tmp_path / SPLITS_FILE).unlink()
    with pytest.raises(LeakError, match="participants who are train or val now were test"):
        run(study, tmp_path, make_splits=SHARES, seed=1)
    assert not (tmp_path / SPLITS_FILE).exists()


def test_a_cross_validated_run_has_looked_at_everybody(study: Study, tmp_path: Path) -> None:
    write(tmp_path, study)
    run(study, tmp_path, cross_validate=2)
    made = run(study, tmp_path, make_splits=SHARES)
    asked = EvaluateOptions(
        run=made.folder, store="x", split="test", labels=tmp_path / "labels.csv", runs=tmp_path / "runs", replicates=20
    )
    assert evaluate(asked, read=lambda *_: study.stored, tell=lambda _: None).looks == 2


def test_a_run_that_is_refused_leaves_no_splits(study: Study, tmp_path: Path) -> None:
    write(tmp_path, study)
    with pytest.raises(OctProbeError, match="--folds 99"):
        run(study, tmp_path, model="linear", make_splits=SHARES, folds=99)
    assert {one.name for one in tmp_path.iterdir()} <= {"labels.csv", "runs"}
    assert not list((tmp_path / "runs").glob("[!.]*"))


def test_evaluate_takes_the_column_of_the_run(study: Study, tmp_path: Path) -> None:
    write(tmp_path, study, part=["train", "train", "val", "test"] * 10)
    made = run(study, tmp_path, split_column="part")
    assert made.record.cohort.splits_from == {"kind": "column", "column": "part"}
    asked = EvaluateOptions(
        run=made.folder, store="x", split="test", labels=tmp_path / "labels.csv", runs=tmp_path / "runs", replicates=20
    )
    assert evaluate(asked, read=lambda *_: study.stored, tell=lambda _: None).looks == 1


def test_baselines_make_and_keep_splits(study: Study, tmp_path: Path) -> None:
    asked = BaselineOptions(
        store="x", labels=write(tmp_path, study), target="dr", make_splits=SHARES, seed=3, replicates=20
    )
    judge_baselines(asked, read=lambda *_: study.stored, tell=lambda _: None)
    assert "shares 60/20/20; seed 3; by participant" in (tmp_path / SPLITS_FILE).read_text()


def test_scans_without_owners_are_split_by_person(study: Study, tmp_path: Path) -> None:
    scans = study.stored.index[["key"]].rename(columns={"key": "file"}).assign(dr=["yes", "no"] * 80)
    scans.to_csv(tmp_path / "labels.csv", index=False)
    first = run(study, tmp_path, make_splits=SHARES)
    cohort = load_run(first.folder).cohort
    assert cohort.groupby("participant")["split"].nunique().max() == 1
    assert set(cohort["split"]) == {"train", "val", "test"}
    assert run(study, tmp_path).record.cohort.cohort_sha256 == first.record.cohort.cohort_sha256
    assert len(first.record.cohort.test_people) == 8
