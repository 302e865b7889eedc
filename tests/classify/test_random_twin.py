"""The random twin: fitted as the encoder was, judged on the same people, and honest about what it is not."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.baselines.random_twin import read_checked_twin
from classify.errors import CohortError
from classify.judging.bootstrap import draw_replicates, measure, summarise
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions, rows_of
from embeddings_store.encoder_source import EncoderSource, Training
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def twin_of(study: Study, effect: float = 0.0, **changed: Any) -> Snapshot:
    """The same volumes as another encoder sees them."""
    other = make_study(len(study.people), effect=effect, seed=0).stored
    fields = {"weights_sha256": "7" * 64} | changed
    return replace(study.stored, pooled=other.pooled, space=replace(study.stored.space, **fields))


def run(study: Study, folder: Path, twin: Snapshot, **options: Any) -> Probed:
    asked = ProbeOptions(
        store="store",
        model="linear",
        participants=study.write(folder),
        replicates=100,
        runs=folder / "runs",
        random_twin="twin",
    )
    return probe(
        replace(asked, **options), now=NOW, read=lambda address, *_: twin if address == "twin" else study.stored
    )


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(128, effect=2.0)


def test_the_twin_stands_among_the_baselines(study: Study, tmp_path: Path) -> None:
    done = run(study, tmp_path, twin_of(study))
    record, frame = done.record, load_run(done.folder).predictions
    assert record.rivals.difference_to_random_twin["macro_auroc"].low > 0
    assert record.judged.baselines["random twin"]["val"]["macro_auroc"].low < 0.6
    assert not any("twin" in line["name"] for line in record.rivals.baselines_missing)
    ours, theirs = (
        pick_predictions(frame, model=m, level="participant", split="val") for m in ("linear", "random twin")
    )
    drawn = draw_replicates(ours.participant, replicates=100, seed=0)
    (_, one), (_, two) = measure(ours, drawn, record.asked.classes), measure(theirs, drawn, record.asked.classes)
    expected = summarise(one["macro_auroc"] - two["macro_auroc"], "")
    found = record.rivals.difference_to_random_twin["macro_auroc"]
    assert (found.value, found.ends) == (expected.value, expected.ends)
    assert record.rivals.random_twin is not None
    assert record.rivals.random_twin["space"] != record.asked.space
    assert record.rivals.random_twin["notes"] == [
        "a store does not say whether its weights are random: that this one's are is taken on trust"
    ]


def test_a_twin_that_sees_the_same_is_no_worse(study: Study, tmp_path: Path) -> None:
    """A probe of the twin's own store gives the very numbers that the twin has beside another run."""
    same = twin_of(study, effect=2.0)
    same = replace(same, pooled=study.stored.pooled)
    difference = run(study, tmp_path, same).record.rivals.difference_to_random_twin
    assert {name: measured.value for name, measured in difference.items()} == {
        "balanced_accuracy": 0.0,
        "macro_auroc": 0.0,
    }


def test_only_people_of_both_stores_are_compared(study: Study, tmp_path: Path) -> None:
    twin = twin_of(study)
    names = np.unique(twin.index["participant"])
    kept = twin.index["participant"].isin(names[: 9 * len(names) // 10]).to_numpy()
    fewer = replace(twin, index=twin.index[kept].reset_index(drop=True), pooled=twin.pooled[kept])
    done = run(study, tmp_path, fewer)
    record, frame = done.record, load_run(done.folder).predictions
    ours, theirs = (
        pick_predictions(frame, model=name, level="participant", split="val") for name in ("linear", "random twin")
    )
    ours = rows_of(ours, np.isin(ours.participant, theirs.participant))
    drawn = draw_replicates(ours.participant, replicates=100, seed=0)
    (_, one), (_, two) = measure(ours, drawn, record.asked.classes), measure(theirs, drawn, record.asked.classes)
    found = record.rivals.difference_to_random_twin["macro_auroc"]
    assert found.to_dict() | summarise(one["macro_auroc"] - two["macro_auroc"], "").to_dict() == found.to_dict()
    assert record.rivals.random_twin is not None
    people = record.rivals.random_twin["participants"]["val"]
    assert people < record.cohort.splits["val"]["participants"]
    said = f"val: the twin has {people} of {record.cohort.splits['val']['participants']} participants"
    assert said in record.rivals.random_twin["notes"]
    assert "the two stores hold different volumes" in record.rivals.random_twin["notes"]
    assert record.judged.metrics == run(study, tmp_path, twin).record.judged.metrics


def test_an_inexact_twin_is_said(study: Study, tmp_path: Path) -> None:
    record = run(study, tmp_path, twin_of(study, image_size=(8, 32, 32), precision="bf16")).record
    assert record.rivals.random_twin is not None
    assert record.rivals.random_twin["notes"][0] == "no exact twin: the two stores differ in image_size, precision"


@pytest.mark.parametrize(("training", "refused"), [("trained", True), ("unclear", True), ("random", False)])
def test_a_twin_that_was_trained_or_may_be_is_refused(study: Study, training: Training, refused: bool) -> None:
    source = EncoderSource("best.pt", "vjepa3d", "1" * 64, 40, training, "as the doctor finds it")
    stored = replace(twin_of(study), encoder=source)
    if not refused:
        assert read_checked_twin(stored, study.stored.space) is stored
        return
    with pytest.raises(UsageError, match=r"random weights, got best\.pt \(vjepa3d, epoch 40\): as the doctor finds it"):
        read_checked_twin(stored, study.stored.space)


def test_no_twin_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got the weights of --store itself"):
        run(study, tmp_path, study.stored)
    strangers = twin_of(study)
    strangers = replace(
        strangers, index=strangers.index.assign(participant=[f"9{p[1:]}" for p in strangers.index["participant"]])
    )
    with pytest.raises(CohortError):
        run(study, tmp_path, strangers)
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name not in {"studies"}] == []
