"""Several stores in one probe: side by side, averaged, and whether the second adds anything to the first."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluate import evaluate
from classify.features.fused import fuse, stores_of_space
from classify.features.several_stores import name_stores
from classify.fitting.source import source_of_run
from classify.options import ProbeOptions
from classify.predict import predict
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions
from classify.run.summary import store_lines
from classify.run_options import EvaluateOptions, PredictOptions
from embeddings_store.errors import UsageError
from embeddings_store.schema import volume_id
from embeddings_store.snapshot import Snapshot
from reports.runs import FinishedRun
from reports.validity import validity_tables

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
TWO = ("a=first", "b=second")


def other(study: Study, *, effect: float, seed: int = 3, keys: str = "") -> Snapshot:
    """The same people as another encoder sees them, with a signal of its own; keys: where its files lie."""
    seen = make_study(len(study.people), effect=effect, seed=seed).stored
    own = study.stored
    step = study.people.set_index("participant_id")["study_group"].map({"healthy": 0.0}).fillna(1.0)
    rng = np.random.default_rng(seed)
    pooled = rng.normal(0, 1, (*seen.pooled.shape[:3], 5)).astype(np.float32)
    pooled[..., 0] += effect * step.loc[own.index["participant"]].to_numpy(np.float32)[:, None, None]
    index = own.index.assign(key=keys + own.index["key"])
    index = index.assign(volume=[volume_id(key) for key in index["key"]])
    space = replace(own.space, weights_sha256="2" * 64, family="vjepa2", width=5)
    return replace(own, pooled=pooled, index=index, space=space, number=7)


def reading(**stores: Snapshot) -> Any:
    return lambda address, *_: stores[address]


def probed(study: Study, folder: Path, read: Any, **options: Any) -> Probed:
    asked = {"store": TWO, "model": "linear", "task": "healthy-vs-rest", "replicates": 100, "runs": folder / "runs"}
    return probe(ProbeOptions(participants=study.write(folder), **(asked | options)), now=NOW, read=read)


def test_rows_lie_side_by_side_and_the_space_names_both_in_order() -> None:
    first = make_study(16).stored
    second = replace(first, pooled=first.pooled[::-1] * 2, index=first.index[::-1].reset_index(drop=True))
    both = fuse({"a": first, "b": second}, "participant")
    assert both.pooled.shape[-1] == 2 * first.pooled.shape[-1]
    assert np.array_equal(both.pooled[..., :6], first.pooled)
    assert np.array_equal(both.pooled[..., 6:], first.pooled * 2), "joined by key, whatever the order"
    assert stores_of_space(both.space.to_dict()) == ("a", "b")
    assert fuse({"b": first, "a": second}, "participant").space_id != both.space_id, "the order is part of the space"
    less = replace(first, space=replace(first.space, layers=("last",)), layers=("last",), pooled=first.pooled[:, 1:])
    assert fuse({"a": first, "b": less}, "participant").layers == ("last",)


def test_what_one_store_lacks_stays_as_a_named_row() -> None:
    first = make_study(16).stored
    second = first.where(np.arange(len(first.index)) >= 3)
    both = fuse({"a": first, "b": second}, "participant")
    assert len(both.index) == len(first.index)
    assert (both.index["not_in"] == "b").sum() == 3
    assert np.isnan(both.pooled[both.index["not_in"] != ""][..., 6:]).all()
    assert "61 volumes in all stores, 3 in some of them only" in both.note


def test_units_are_joined_where_keys_differ_and_every_scan_behind_them_is_known() -> None:
    study = make_study(16)
    first, second = study.stored, other(study, effect=0.0, keys="else/")
    both = fuse({"a": first, "b": second}, "eye")
    assert len(both.index) == 32 and "joined by eye" in both.note
    row = both.index.index[(both.index["participant"] == "1003") & (both.index["eye"] == "L")][0]
    own = ((first.index["participant"] == "1003") & (first.index["eye"] == "L")).to_numpy()
    assert both.pooled[row][..., :6] == pytest.approx(first.pooled[own].mean(axis=0), abs=1e-5)
    assert both.pooled[row][..., 6:] == pytest.approx(second.pooled[own].mean(axis=0), abs=1e-5)
    assert both.marked is not None and len(both.marked) == 2 * len(first.index)


def swapped(stored: Snapshot) -> Snapshot:
    """The same keys, of other people."""
    return replace(stored, index=stored.index.assign(participant=stored.index["participant"].to_numpy()[::-1]))


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        (lambda s: replace(s, space=replace(s.space, layers=("1", "2")), layers=("1", "2")), "eye", None),
        (lambda s: replace(s, space=replace(s.space, layers=("3", "4")), layers=("3", "4")), "eye", "share no layer"),
        (
            lambda s: replace(s, space=replace(s.space, pools=("std", "cls")), pools=("std", "cls")),
            "eye",
            "share no pool",
        ),
        (lambda s: s.where(np.zeros(len(s.index), dtype=bool)), "eye", "--store b: expected volumes, each once"),
        (lambda s: replace(s, index=s.index.assign(volume="x")), "eye", "--store b: expected volumes, each once"),
        (swapped, "eye", "other scans, or other people's, under the same keys"),
        (lambda s: replace(s, index=s.index.assign(size=7)), "eye", "other scans, or other people's, under the same"),
        (lambda s: replace(s, index=s.index.assign(volume="x" + s.index["volume"])), "scan", "share no key"),
        (
            lambda s: replace(
                s, index=s.index.assign(volume="x" + s.index["volume"], participant="z" + s.index["participant"])
            ),
            "participant",
            "share no participant; they hold different people",
        ),
    ],
)
def test_stores_that_do_not_go_together_are_refused(change: Any, level: Any, said: str | None) -> None:
    first = make_study(16).stored
    second = change(replace(first, pooled=first.pooled * 3))
    if said is None:
        assert fuse({"a": first, "b": second}, level).layers == ("1",)
        return
    with pytest.raises((CohortError, UsageError), match=said):
        fuse({"a": first, "b": second}, level)


@pytest.mark.parametrize(
    ("store", "said"),
    [(("a=x", "y"), "expected NAME=ADDRESS"), (("a=x", "a=y"), "stands twice"), (("a/b=x", "c=y"), "NAME=ADDRESS")],
)
def test_names_of_stores(store: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        name_stores(store)
    assert name_stores(("s3://b/day=1",)) == {"": "s3://b/day=1"}


def test_a_store_with_a_signal_of_its_own_adds_and_the_run_remembers_both(tmp_path: Path) -> None:
    study = make_study(320, effect=0.3)
    second = other(study, effect=2.5)
    read = reading(first=study.stored, second=second)
    record = probed(study, tmp_path, read).record
    told = record.rivals.stores
    assert told is not None
    assert told["adds"].startswith("b added to a: shown, side by side and averaged")
    assert set(record.judged.baselines) >= {"a alone", "b alone", "mean of a, b"}
    assert record.asked.snapshot["numbers"] == {"a": 1, "b": 7}
    assert any("side by side minus a alone" in line for line in store_lines(told))

    run = tmp_path / "runs" / record.id
    table = next(one for one in validity_tables(FinishedRun(load_run(run))) if one.anchor == "stores")
    assert len(table.rows) == 4 and "minus a alone" in table.caption and "b added to a: shown" in table.caption
    frame = load_run(run).predictions
    alone, mean = (
        pick_predictions(frame, model=name, level="participant", split="val") for name in ("b alone", "mean of a, b")
    )
    first = pick_predictions(frame, model="a alone", level="participant", split="val")
    assert mean.probability == pytest.approx((alone.probability + first.probability) / 2)

    asked = {"run": run, "participants": study.write(tmp_path), "split": "test", "replicates": 50}
    with pytest.raises(UsageError, match="made from the stores a, b; expected --store a=ADDRESS --store b=ADDRESS"):
        evaluate(EvaluateOptions(store="first", **asked), now=NOW, read=read)
    turned = ("b=second", "a=first")
    seen = evaluate(EvaluateOptions(store=turned, **asked), now=NOW, read=read).record
    assert seen.judged.metrics["participant"]["test"]["macro_auroc"].low > 0.7, "in the order of the run"

    with pytest.raises(RunFolderError, match="reads the stores a, b side by side, here is one store"):
        source_of_run(load_run(run), study.stored)
    lacking = reading(first=study.stored, second=second.where(np.arange(len(second.index)) > 0))
    options = PredictOptions(store=turned, run=run, out=tmp_path / "out.csv", runs=tmp_path / "runs")
    lines = predict(options, read=lacking).table
    gap = lines[(lines["level"] == "volume") & lines["reason"].str.startswith("not in all stores")]
    assert len(gap) == 1 and (lines["level"] == "volume").sum() == len(study.stored.index)


def test_a_store_of_noise_adds_nothing_and_lost_volumes_are_counted(tmp_path: Path) -> None:
    study = make_study(96, effect=0.8)
    noise = other(study, effect=0.0).where(np.arange(len(study.stored.index)) >= 2)
    record = probed(study, tmp_path, reading(first=study.stored, second=noise)).record
    assert record.rivals.stores is not None
    assert record.rivals.stores["adds"] == "b not shown to add anything to a, neither side by side nor averaged"
    step = next(step for step in record.cohort.flow if step["step"] == "not in all stores")
    assert (step["volumes"], step["reason"]) == (2, "no vector of it in b (2)")


def test_test_people_of_one_store_stay_locked_in_units_of_two(tmp_path: Path) -> None:
    study = make_study(96, effect=0.8)
    second = other(study, effect=0.0, keys="else/")
    probed(study, tmp_path, reading(second=second), store="second")
    turned = study.people["recommended_split"].replace({"train": "test", "test": "train"})
    moved = Study(study.people.assign(recommended_split=turned), study.stored)
    with pytest.raises(LeakError, match="were test in"):
        probed(moved, tmp_path, reading(first=study.stored, second=second))


def test_a_random_twin_goes_with_one_store(tmp_path: Path) -> None:
    study = make_study(32)
    with pytest.raises(UsageError, match="--random-twin: goes with one --store"):
        probed(study, tmp_path, reading(first=study.stored, second=study.stored), random_twin="first")


def test_a_run_of_one_store_is_not_given_two(tmp_path: Path) -> None:
    study = make_study(96, effect=0.8)
    run = probed(study, tmp_path, reading(first=study.stored), store="first").folder
    options = PredictOptions(store=TWO, run=run, out=tmp_path / "out.csv", runs=tmp_path / "runs")
    with pytest.raises(UsageError, match="was made from one store; got 2"):
        predict(options, read=reading(first=study.stored, second=study.stored))
