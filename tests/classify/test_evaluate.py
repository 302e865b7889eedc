"""The locked test split: every look is counted before it happens, and a wrong cohort never gets one."""

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study

from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluate import evaluate
from classify.evaluating.look import Evaluated
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import COHORT, load_run
from classify.run.ledger import LEDGER
from classify.run.predictions import pick_predictions
from classify.run.record import RECORD
from classify.run_options import EvaluateOptions
from embeddings_store.errors import UsageError

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def probed(study: Study, folder: Path, model: str = "linear", **options: Any) -> Probed:
    """Make a run; the first one in its folder without options is a copy, where a test before has made the same."""
    if options or (folder / "runs").exists():
        return new_run(study, folder, model, **options)
    kept = folder.parent / f"first-run-{sha256(pickle.dumps((model, study))).hexdigest()}"
    if not kept.exists():
        kept.mkdir()
        new_run(study, kept, model)
    study.write(folder)
    shutil.copytree(kept / "runs", folder / "runs")
    (run,) = (path.parent for path in (folder / "runs").glob(f"*/{RECORD}"))
    return Probed(load_run(run).record, run)


def new_run(study: Study, folder: Path, model: str, **options: Any) -> Probed:
    asked = {"replicates": 50, "runs": folder / "runs", "participants": study.write(folder)} | options
    return probe(ProbeOptions(store="store", model=model, **asked), now=NOW, read=lambda *_: study.stored)


def look(study: Study, folder: Path, run: Path) -> Evaluated:
    options = EvaluateOptions(store="store", run=run, participants=study.write(folder), split="test", replicates=50)
    return evaluate(options, now=NOW, read=lambda *_: study.stored)


def ledger(folder: Path) -> list[Mapping[str, str]]:
    path = folder / "runs" / LEDGER
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_look_puts_test_beside_val_and_a_line_into_the_ledger(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    seen = look(study, tmp_path, done.folder)
    run = load_run(done.folder)
    assert run.record == seen.record
    (line,) = ledger(tmp_path)
    assert line["id"] == run.record.evaluations[0]["id"]
    assert len(line["people"]) == 16
    assert {name: line[name] for name in ("run", "date", "cohort_sha256")} == {
        "run": done.record.id,
        "date": "2026-11-22T15:03:01+00:00",
        "cohort_sha256": done.record.cohort.cohort_sha256,
    }
    for level in ("volume", "eye", "participant"):
        assert set(run.record.judged.metrics[level]) == {"val", "test"}
        assert run.record.judged.metrics[level]["val"] == done.record.judged.metrics[level]["val"]
    assert set(run.record.judged.baselines["age+site"]) == {"val", "test"}
    assert run.record.judged.confusion == done.record.judged.confusion
    entry = run.record.evaluations[0]
    assert np.sum(entry["confusion"]["participant"]) == 16
    assert entry["calibration"] == (done.record.fitted.calibration or {})["method"]
    people = pick_predictions(run.predictions, model="linear", level="participant", split="test")
    locked = set(run.cohort.loc[run.cohort["split"] == "test", "participant"])
    assert set(people.participant) == locked
    flow = {step["step"]: step["reason"] for step in run.record.cohort.flow}
    assert flow["test"] == "predicted by classify evaluate on 2026-11-22"


def test_the_saved_head_is_what_predicts(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, calibrate="none")
    look(study, tmp_path, done.folder)
    people = pick_predictions(load_run(done.folder).predictions, model="linear", level="participant", split="test")
    right = float((people.probability.argmax(axis=1) == people.label).mean())
    assert right > 0.6
    with np.load(done.folder / "model" / "head.npz") as saved:
        swapped = {"coef": -saved["coef"], "intercept": saved["intercept"]}
    np.savez(done.folder / "model" / "head.npz", **swapped)
    older = json.loads((done.folder / RECORD).read_text()) | {"model_sha256": {}}  # else the file is refused
    (done.folder / RECORD).write_text(json.dumps(older))
    look(study, tmp_path, done.folder)
    people = pick_predictions(load_run(done.folder).predictions, model="linear", level="participant", split="test")
    assert float((people.probability.argmax(axis=1) == people.label).mean()) < right


def test_a_second_look_is_counted_and_replaces_the_first(study: Study, tmp_path: Path) -> None:
    first, other = probed(study, tmp_path), probed(study, tmp_path, "dummy")
    assert look(study, tmp_path, first.folder).looks == 1
    assert look(study, tmp_path, other.folder).looks == 2
    again = look(study, tmp_path, first.folder)
    assert again.looks == 3
    assert [entry["look"] for entry in again.record.evaluations] == [1, 3]
    predictions = load_run(first.folder).predictions
    assert predictions.duplicated(["model", "level", "split", "unit"]).sum() == 0
    assert len(ledger(tmp_path)) == 3


def refused(study: Study, folder: Path, run: Path, error: type[Exception], message: str) -> None:
    before = (run / RECORD).read_text()
    with pytest.raises(error, match=message):
        look(study, folder, run)
    assert ledger(folder) == []
    assert (run / RECORD).read_text() == before
    assert list(run.glob(".*")) == []


def test_another_cohort_gets_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    fewer = replace(study.stored, index=study.stored.index[:-1], pooled=study.stored.pooled[:-1])
    refused(Study(study.people, fewer), tmp_path, done.folder, CohortError, "made on the cohort")
    study.people.loc[0, "study_group"] = study.people.loc[1, "study_group"]
    refused(study, tmp_path, done.folder, CohortError, "made on the cohort")


def test_another_space_gets_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    other = replace(study.stored, space=replace(study.stored.space, precision="bf16"))
    refused(Study(study.people, other), tmp_path, done.folder, RunFolderError, "embedding space")


def test_a_participant_that_was_fitted_on_gets_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    cohort = pd.read_parquet(done.folder / COHORT)
    leaked = cohort.loc[cohort["split"] == "test", "participant"].iloc[0]
    cohort.loc[cohort["participant"] == leaked, "split"] = "train"
    cohort.to_parquet(done.folder / COHORT)
    refused(study, tmp_path, done.folder, LeakError, leaked)


def test_a_finetuned_run_is_refused(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    record = json.loads((done.folder / RECORD).read_text()) | {"model": "finetune"}
    (done.folder / RECORD).write_text(json.dumps(record))
    refused(study, tmp_path, done.folder, RunFolderError, "expected a run of classify probe")


def test_nobody_looks_over_a_damaged_ledger(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    (tmp_path / "runs" / LEDGER).write_text('{"run": "x"}\n')
    with pytest.raises(RunFolderError, match="line 1"):
        look(study, tmp_path, done.folder)
    assert "test" not in load_run(done.folder).record.judged.metrics["participant"]


def test_a_look_that_fails_afterwards_stays_counted(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = probed(study, tmp_path, "dummy")

    def fail(*_: Any, **__: Any) -> None:
        raise RunFolderError("disk full")

    monkeypatch.setattr("classify.evaluating.look.update_run", fail)
    with pytest.raises(RunFolderError, match="disk full"):
        look(study, tmp_path, done.folder)
    assert len(ledger(tmp_path)) == 1


def test_a_phantom_without_an_effect_stays_at_chance_on_test(tmp_path: Path) -> None:
    study = make_study(160, effect=0.0, seed=4)
    record = look(study, tmp_path, probed(study, tmp_path).folder).record
    measured = record.judged.metrics["participant"]["test"]["macro_auroc"]
    assert measured.low < 0.5 < measured.high


def twin_study(study: Study) -> Study:
    """The same people and volumes as an encoder sees them that has learned nothing of the label."""
    blind = make_study(len(study.people), effect=0.0, seed=0).stored
    space = replace(study.stored.space, weights_sha256="7" * 64)
    return Study(study.people, replace(study.stored, pooled=blind.pooled, space=space))


def test_the_random_twin_is_looked_at_beside(study: Study, tmp_path: Path) -> None:
    twin, participants = twin_study(study).stored, study.write(tmp_path)
    asked = ProbeOptions(
        store="store",
        model="linear",
        replicates=50,
        runs=tmp_path / "runs",
        participants=participants,
        random_twin="twin",
    )
    done = probe(asked, now=NOW, read=lambda address, *_: twin if address == "twin" else study.stored)
    options = EvaluateOptions(
        store="store", run=done.folder, participants=participants, split="test", replicates=50, random_twin="twin"
    )
    seen = evaluate(options, now=NOW, read=lambda address, *_: twin if address == "twin" else study.stored).record
    assert set(seen.judged.baselines["random twin"]) == {"val", "test"}
    assert seen.judged.baselines["random twin"]["val"] == done.record.judged.baselines["random twin"]["val"]
    assert seen.evaluations[0]["difference_to_random_twin"]["macro_auroc"].low > 0

    (tmp_path / "alone").mkdir()
    alone = probed(twin_study(study), tmp_path / "alone", calibrate="none")
    record = look(twin_study(study), tmp_path / "alone", alone.folder).record
    expected = record.judged.metrics["participant"]["test"]
    assert seen.judged.baselines["random twin"]["test"]["macro_auroc"] == expected["macro_auroc"], (
        "as the twin's own run"
    )


def test_a_twin_that_the_run_does_not_have_gets_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    options = EvaluateOptions(
        store="store",
        run=done.folder,
        participants=study.write(tmp_path),
        split="test",
        replicates=50,
        random_twin="twin",
    )
    with pytest.raises(UsageError, match="made without one"):
        evaluate(
            options, now=NOW, read=lambda address, *_: twin_study(study).stored if address == "twin" else study.stored
        )
    assert ledger(tmp_path) == []
