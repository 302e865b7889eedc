"""Several targets in one command: a run of each, one table, and p-values that know how many were asked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import make_study

from classify.comparing.study_tables import target_lines, targets_table
from classify.comparing.target_folder import TargetsRecord
from classify.errors import CohortError
from classify.judging.holm import adjust_holm
from classify.options import ProbeOptions
from classify.run.folder import load_run
from classify.run.typed_record import as_json, read_typed
from classify.targets import Targets, probe_targets, split_targets
from embeddings_store.errors import UsageError

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Targets:
    folder = tmp_path_factory.mktemp("targets")
    study = make_study(160, effect=1.0)
    rng = np.random.default_rng(0)
    groups = study.people["study_group"]
    table = pd.DataFrame(
        {
            "participant": study.people["participant_id"],
            "age": study.people["age"],
            "site": study.people["clinical_site"],
            "split": study.people["recommended_split"],
            "dr": np.where(groups == "healthy", "no", "yes"),
            "noise": np.where(rng.random(len(groups)) < 0.5, "no", "yes"),
            "empty": "no",
        }
    )
    table.to_csv(folder / "labels.csv", index=False)
    options = ProbeOptions(
        model="linear", store="x", labels=folder / "labels.csv", target="dr,noise,empty,nowhere", replicates=200,
        runs=folder / "runs",
    )  # fmt: skip
    return probe_targets(options, clock=lambda: NOW, read=lambda *_: study.stored, tell=lambda _: None)


def test_each_target_is_a_run_and_a_failing_one_a_named_gap(done: Targets) -> None:
    assert [line.target for line in done.record.targets] == ["dr", "noise"]
    assert [gap.target for gap in done.record.absent] == ["empty", "nowhere"]
    assert "expected at least two classes" in done.record.absent[0].reason
    assert "no such column" in done.record.absent[1].reason
    for line in done.record.targets:
        run = load_run(done.folder.parent.parent / line.run).record
        assert run.asked.task == line.target
        assert line.metrics["macro_auroc"] == run.judged.metrics["participant"]["val"]["macro_auroc"]


def test_p_values_are_adjusted_for_the_targets_that_were_tested(done: Targets) -> None:
    real, noise = done.record.targets
    p = real.p["chance"]["macro_auroc"]
    assert p.of == 2 and p.holm == pytest.approx(min(1, 2 * p.value)) and p.holm < 0.05
    assert noise.p["chance"]["macro_auroc"].holm > 0.05
    assert real.p["baselines"]["macro_auroc"].value >= 1 / 201
    assert noise.p["baselines"]["macro_auroc"].value > 0.05


def test_the_table_is_kept_and_printed(done: Targets) -> None:
    path = done.folder / "targets.json"
    assert json.loads(path.read_text()) == as_json(done.record)
    assert read_typed(TargetsRecord, path) == done.record
    rows = pd.read_csv(done.folder / "targets.csv")
    assert list(rows["target"]) == ["dr", "noise", "empty", "nowhere"]
    assert rows["reason"].str.contains("no such column").any()
    assert targets_table(done.record).row_count == 6
    said = "\n".join(target_lines(done.record))
    assert "adjusted by Holm for the targets that have one" in said and "nowhere: absent:" in said


def test_where_no_target_can_be_used_the_first_error_stands(tmp_path: Path) -> None:
    study = make_study(32)
    pd.DataFrame({"participant": study.people["participant_id"], "split": "train", "dr": "no"}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    options = ProbeOptions(model="linear", store="x", labels=tmp_path / "labels.csv", target="no1,no2",
                           runs=tmp_path / "runs")  # fmt: skip
    with pytest.raises(CohortError, match="--target no1: no such column"):
        probe_targets(options, read=lambda *_: study.stored, tell=lambda _: None)


@pytest.mark.parametrize("asked", ["dr,", "dr,dr", ",dr"])
def test_names_of_targets_are_different_ones(asked: str) -> None:
    with pytest.raises(UsageError, match="expected different names"):
        split_targets(asked)


@pytest.mark.parametrize(("asked", "names"), [(None, ()), ("dr", ()), ("dr, dme", ("dr", "dme"))])
def test_targets_are_split_at_commas(asked: str | None, names: tuple[str, ...]) -> None:
    assert split_targets(asked) == names


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ({"a": 0.01, "b": 0.04, "c": 0.03}, {"a": 0.03, "b": 0.06, "c": 0.06}),
        (
            {"a": 0.01, "b": 0.02, "c": 0.03, "d": 0.04, "e": 0.5},
            {"a": 0.05, "b": 0.08, "c": 0.09, "d": 0.09, "e": 0.5},
        ),
        ({"a": 0.6, "b": 0.7}, {"a": 1.0, "b": 1.0}),
        ({}, {}),
    ],
)
def test_holm_as_by_hand(p: dict[str, float], adjusted: dict[str, Any]) -> None:
    assert adjust_holm(p) == pytest.approx(adjusted)
