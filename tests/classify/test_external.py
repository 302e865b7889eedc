"""People of another place: strangers to the run, locked and counted, and held against what the run reached at home."""

import json
from dataclasses import replace
from datetime import UTC, datetime
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
from classify.predict import predict
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.ledger import LEDGER
from classify.run.predictions import judged_of, pick_predictions
from classify.run_options import EvaluateOptions, PredictOptions
from embeddings_store.errors import UsageError
from embeddings_store.schema import volume_id

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
EFFECT, REPLICATES = 0.7, 100


def away(participants: int = 96, *, effect: float = EFFECT, seed: int = 9, shift: float = 0.0) -> Study:
    """Other people: other keys and numbers, of one site that the run does not know, the device moved by ``shift``."""
    study = make_study(participants, effect=effect, seed=seed)
    index = study.stored.index.assign(
        key="elsewhere/" + study.stored.index["key"], participant="B" + study.stored.index["participant"], site="berlin"
    )
    index = index.assign(volume=[volume_id(key) for key in index["key"]])
    people = study.people.assign(participant_id="B" + study.people["participant_id"], clinical_site="berlin")
    return Study(people, replace(study.stored, index=index, pooled=study.stored.pooled + np.float32(shift)))


def labels_of(study: Study, folder: Path, name: str = "labels.csv", **columns: Any) -> Path:
    """A table of labels as a hospital has it: no split, and only what is needed."""
    table = study.people.rename(columns={"participant_id": "participant", "clinical_site": "site"})
    path = folder / name
    table[["participant", "site", "age", "study_group"]].assign(**columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def home() -> Study:
    return make_study(160, effect=EFFECT)


@pytest.fixture(scope="module")
def runs(home: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    asked = ProbeOptions(
        store="store", model="linear", participants=home.write(folder), replicates=REPLICATES, runs=folder / "runs",
        task="healthy-vs-rest",
    )  # fmt: skip
    probe(asked, now=NOW, read=lambda *_: home.stored)
    return folder / "runs"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A copy, so that each test counts its own looks."""
    from shutil import copytree

    source = next(path for path in runs.iterdir() if path.name.startswith("2026"))
    return Path(copytree(source, tmp_path / "runs" / source.name))


def look(study: Study, run: Path, labels: Path, **options: Any) -> Evaluated:
    asked = {"replicates": REPLICATES, "external": True, "runs": run.parent} | options
    return evaluate(EvaluateOptions(store="there", run=run, labels=labels, **asked), now=NOW, read=lambda *_: study.stored)


def test_a_run_is_judged_on_people_of_another_place(run: Path, tmp_path: Path) -> None:
    study = away()
    before = load_run(run)
    done = look(study, run, labels_of(study, tmp_path), recalibrate_on=40)
    entry = done.record.evaluations[-1]
    assert (entry["kind"], entry["look"], done.looks) == ("external", 1, 1)
    assert entry["sizes"]["participants"] == 56 and entry["recalibration"]["participants"] == 40
    assert entry["judged"]["metrics"]["participant"][entry["split"]]["macro_auroc"]["low"] > 0.5
    assert entry["transport"]["home"] == "val"
    assert {line["name"] for line in entry["baselines_missing"]} >= {"site", "age+site", "pixels", "embedding+age+site"}
    assert set(entry["judged"]["baselines"]) == {"dummy", "age"}
    assert [line["device"] for line in entry["novelty"]] == ["heidelberg_spectralis", "topcon_triton"]
    assert all(line["in_training"] for line in entry["novelty"])
    after = load_run(run)
    assert after.record.judged == before.record.judged, "what the run said of its own people stays as it was"
    rows = after.predictions[after.predictions["split"] == entry["split"]]
    assert set(rows["model"]) == {"linear", "linear, recalibrated", "dummy", "age"}
    assert len(rows[(rows["model"] == "linear") & (rows["level"] == "participant")]) == 56
    ledger = (run.parent / LEDGER).read_text().splitlines()
    assert len(json.loads(ledger[0])["people"]) == 96, "those who recalibrate were seen, too"
