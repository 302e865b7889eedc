"""What of a run leaves the machine: nothing about a participant unless asked for, and an equal model."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from simulated_store import build_store
from test_tracking import RememberedRuns

from classify.fitting.model import load_model
from classify.fitting.source import source_of_run
from classify.options import ProbeOptions
from classify.probe import probe
from classify.reference.neighbours import KnownVolumes
from classify.run.folder import load_run
from embeddings_store.snapshot import read_features_source
from reports.runs import read_runs
from reports.shared_run import scratch_folder, share_run
from reports.tracking import mirror_runs, say_mirrored

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
HEADS = ("linear", "ordinal", "knn")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    store, participants = build_store(folder)
    for model in HEADS:
        options = ProbeOptions(
            store="store", model=model, participants=participants, replicates=10, runs=folder / "runs"
        )
        probe(options, now=NOW, read=lambda *_: read_features_source(str(store)), tell=lambda line: None)
    return folder


def marks_of(folder: Path) -> set[bytes]:
    """Give what nobody else may read: participants and volumes of the run, and the vectors of train."""
    run = load_run(folder)
    ids = {str(one).encode() for name in ("participant", "volume") for one in run.cohort[name]}
    digests = {str(one).encode() for people in run.record.cohort.test_people.values() for one in people}
    known = folder / "model" / "reference" / "known.npz"
    with np.load(known) as arrays:
        vectors = {row.tobytes()[:16] for row in arrays[next(iter(vars(KnownVolumes(**arrays))))]}
    return {mark for mark in ids | digests | vectors if len(mark) >= 6}


def written_below(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_marks_are_found_in_the_run_itself(place: Path) -> None:
    """The test below would pass for marks that nothing holds."""
    for run in read_runs(place / "runs"):
        held = written_below(run.folder)
        assert sum(mark in held for mark in marks_of(run.folder)) > 50
        assert run.record.cohort.test_people


def test_nothing_about_a_participant_is_sent_and_the_model_predicts_the_same(place: Path, tmp_path: Path) -> None:
    for run in read_runs(place / "runs"):
        shared = share_run(run, tmp_path, with_participants=False)
        sent = written_below(tmp_path / run.folder.name)
        assert [mark for mark in marks_of(run.folder) if mark in sent] == []
        assert shared.held_back == (run.model == "knn")
        if shared.model_folder is None:
            assert sorted(path.name for path in shared.record.parent.rglob("*") if path.is_file()) == ["run.json"]
            continue
        copy = load_run(shared.model_folder)
        assert (len(copy.cohort), len(copy.predictions)) == (0, 0)
        raw = source_of_run(run.run, read_features_source(str(place / "store"))).table(load_model(run.run).features)
        ours, theirs = (load_model(one).predict(raw, classes=4, split="all")["participant"] for one in (run.run, copy))
        np.testing.assert_allclose(theirs.probability, ours.probability, atol=1e-12)


def test_participants_go_when_they_are_asked_for(place: Path, tmp_path: Path) -> None:
    for run in read_runs(place / "runs"):
        shared = share_run(run, tmp_path, with_participants=True)
        assert (shared.model_folder, shared.record, shared.held_back) == (run.folder, run.folder / "run.json", False)


def test_a_model_that_stays_here_is_said_and_more_can_be_sent_later(place: Path) -> None:
    tracker = RememberedRuns()
    first = mirror_runs(place / "runs", tracker)
    assert len(first.new) == len(HEADS)
    (knn,) = first.held_back
    assert "knn" in knn
    held, said = say_mirrored(first, with_participants=False)
    assert held.startswith(f"{knn}: its model was not sent")
    assert said == "nothing about a single participant was sent; --with-participants sends it"
    second = mirror_runs(place / "runs", tracker, with_participants=True)
    assert (len(second.new), second.held_back) == (len(HEADS), [])
    (said,) = say_mirrored(second, with_participants=True)
    assert said.startswith("sent with what the runs hold about participants")
    again = [mirror_runs(place / "runs", tracker, with_participants=more) for more in (False, True)]
    assert [(one.new, len(one.kept)) for one in again] == [([], len(HEADS))] * 2
    assert say_mirrored(again[0], with_participants=False) == []


def test_a_damaged_model_is_named_and_the_others_are_mirrored(place: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(place / "runs", runs)
    broken = next(path for path in runs.glob("*linear*") if path.is_dir())
    (broken / "model" / "head.npz").write_bytes(b"cut")
    mirrored = mirror_runs(runs, RememberedRuns())
    assert len(mirrored.new) == len(HEADS) - 1
    assert [one.folder for one in mirrored.left_out] == [broken.name]
    assert json.dumps(mirrored.to_record()["runs_left_out"])
    assert say_mirrored(mirrored, with_participants=False)[0].startswith(f"{broken.name}: cannot be mirrored: ")


def test_what_a_killed_copy_left_goes_with_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = (
        "import os\nfrom reports.shared_run import scratch_folder\n"
        "with scratch_folder() as folder:\n    (folder / 'cohort.parquet').write_text('people')\n    os._exit(9)"
    )
    surroundings = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", killed], env=surroundings, check=False).returncode == 9
    assert b"people" in written_below(tmp_path)
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        assert b"people" not in written_below(tmp_path)
    assert list(tmp_path.iterdir()) == []
