"""Through the command line: whom a run does not answer, and a validation split of one class."""

import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import PROTOCOLS, Study, make_study

from classify.cli import main
from classify.features.stores import read_store
from classify.options import ProbeOptions
from classify.probe import probe
from embeddings_store.schema import Eye, Intensity, Note, RowFacts, VolumeRef, volume_id
from embeddings_store.writer import open_writer

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
NEW = {"device": ("maestro", PROTOCOLS[0][1]), "protocol": (PROTOCOLS[0][0], "unheard_of")}


@dataclass(frozen=True)
class Scans:
    """What the scans of a store are like; new: device and protocol in place of those of the study."""

    new: tuple[str, str] | None = None
    frames: int = 61
    rows: int = 496
    brightness: float = 60.0
    shift: float = 0.0
    share: float = 1.0


def fill(study: Study, url: Path, scans: Scans) -> None:
    """Put the vectors of a study into a real store; the first of the people, by share, have scans like these."""
    rng = np.random.default_rng(0)
    people = sorted(study.stored.index["participant"].unique())
    changed = set(people[: round(scans.share * len(people))])
    refs, facts, vectors = [], {}, {}
    for line, vector in zip(study.stored.index.itertuples(), study.stored.pooled, strict=True):
        own = scans if line.participant in changed else Scans()
        device, protocol = own.new or (line.device, line.protocol)
        refs.append(
            VolumeRef(line.key, 1000, "", volume_id(line.key), line.participant, Eye(line.eye), device, protocol)
        )
        lit = own.brightness + rng.normal(0, 3)
        light = Intensity(*(lit for _ in range(len(Intensity.__dataclass_fields__))))
        facts[line.key] = RowFacts(own.frames, own.rows, 512, None, Eye.UNKNOWN, Note.SYNTHETIC, intensity=light)
        vectors[line.key] = vector + np.float32(own.shift)
    writer = open_writer(str(url), study.stored.space, capacity=5000, worker={"device": "test"})
    writer.add_volumes(refs)
    for line in writer.missing_rows():
        writer.write_row(line.row, vectors[line.ref.key], {}, facts[line.ref.key], bytes(16), 1000)


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    monkeypatch.setattr(sys, "argv", ["classify", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of healthy-vs-rest on 96 people."""
    folder, study = tmp_path_factory.mktemp("run"), make_study(96, effect=1.0)
    fill(study, folder / "store", Scans())
    options = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(folder),
        task="healthy-vs-rest",
        replicates=20,
        runs=folder / "runs",
    )
    return probe(options, now=NOW, read=lambda *_: read_store(str(folder / "store"), None)).folder


@pytest.mark.parametrize(
    ("scans", "reason", "answered"),
    [
        (Scans(NEW["device"], shift=15.0), "unknown device", False),
        (Scans(NEW["device"]), "unknown device", False),
        (Scans(NEW["protocol"]), "unknown protocol", False),
        (Scans(frames=19), "frames, rows or columns not in training", True),
        (Scans(rows=992), "frames, rows or columns not in training", True),
        (Scans(brightness=180.0), "intensity far outside training", True),
        (Scans(brightness=4.0), "intensity far outside training", True),
    ],
)
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_scans_unlike_all_of_training_are_abstained_on(
    run: Path,
    tmp_path: Path,
    scans: Scans,
    reason: str,
    answered: bool,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = make_study(40, effect=1.0, seed=9)
    index = new.stored.index
    index = index.assign(
        participant=[f"9{name[1:]}" for name in index["participant"]], key=["new/" + k for k in index["key"]]
    )
    fill(Study(new.people, replace(new.stored, index=index)), tmp_path / "there", replace(scans, share=share))
    monkeypatch.chdir(tmp_path)
    told: dict[bool, tuple[dict[str, Any], pd.DataFrame]] = {}
    for answer in (False, True):
        code, out, err = call(
            monkeypatch, capsys, "predict", "--run", str(run), "--store", "there", "--out",
            "out.parquet", "--abstain-below", "0", "--json", *(["--answer-unknown"] if answer else []),
        )  # fmt: skip
        assert code == 0, err
        told[answer] = json.loads(out), pd.read_parquet("out.parquet").set_index(["level", "unit"])
    strange = told[False][1]["reason"].str.contains(reason)
    for level, units in (("volume", 160), ("eye", 80), ("participant", 40)):
        assert strange[level].sum() == round(share * units)
    lines = told[False][1][strange]
    assert lines["abstain"].all()
    assert lines["predicted"].notna().all() == answered
    assert told[False][0]["levels"]["participant"]["abstained"] >= share * 40
    asked = told[True][1]
    assert asked["predicted"].notna().all()
    assert not asked["reason"].str.contains(reason).any()
    if scans.shift:  # answered, but still far from all of training
        assert asked.loc[strange[strange].index, "abstain"].all()
    assert reason.removeprefix("unknown ") in " ".join(told[True][0]["flags"])


@pytest.mark.parametrize(("below", "said"), [("1", True), ("0.5", False)])
def test_a_confidence_that_nobody_reaches_is_said(
    run: Path, below: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    store = str(run.parent.parent / "store")
    code, out, err = call(monkeypatch, capsys, "predict", "--run", str(run), "--store", store, "--abstain-below", below)
    assert code == 0, err
    assert ("can hardly be met: 0% of this run's validation participants reach it" in " ".join(out.split())) == said


def test_a_validation_of_one_class_neither_calibrates_nor_has_metrics_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(96, effect=1.0)
    alone = (study.people["recommended_split"] != "val") | (study.people["study_group"] == "healthy")
    study.people.loc[~alone, "recommended_split"] = "train"
    fill(study, tmp_path / "store", Scans())
    study.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        monkeypatch, capsys, "probe", "--model", "linear", "--task", "healthy-vs-rest", "--store", "store",
        "--participants", "participants.tsv", "--replicates", "20", "--json",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads(out)
    measured = record["metrics"]["participant"]["val"]
    for name in ("macro_auroc", "balanced_accuracy"):
        assert "value" not in measured[name], (name, measured[name])
        assert measured[name]["absent"]
    at = record["calibration"]["levels"]["participant"]
    assert "by_class" not in at
    assert at["absent"] == "no unit of class rest"
    assert record["calibration"]["fitted_on"] == "out-of-fold predictions of train"
