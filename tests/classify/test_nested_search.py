"""The search as a whole on participants that it never saw, and the result with other seeds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.summary import search_lines, seed_lines
from embeddings_store.errors import UsageError

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
NARROW = {"layer": "last", "aggregate": "mean-logits"}
"""A space in which a search takes seconds."""


def run(study: Study, folder: Path, model: str = "linear", **options: Any) -> Probed:
    folder.mkdir(exist_ok=True)
    said: list[str] = options.pop("said", [])
    asked = {"replicates": 20, "jobs": 1, "runs": folder / "runs", "participants": study.write(folder)} | options
    return probe(
        ProbeOptions(store="store", model=model, **asked), now=NOW, read=lambda *_: study.stored, tell=said.append
    )


def test_the_outer_score_has_an_interval_and_stays_at_chance_without_an_effect(tmp_path: Path) -> None:
    """Labels without any effect: whatever looked best inside, outside it is at chance."""
    study = make_study(64, seed=3)
    record = run(study, tmp_path, trials=3, nested=True, folds=2, **NARROW).record.fitted.search
    assert record is not None
    nested = record["nested"]
    assert nested["participants"] == 48
    assert (nested["splits"], len(nested["chosen"])) == (["train", "val"], nested["outer_folds"])
    auroc = nested["metrics"]["macro_auroc"]
    assert auroc.low <= auroc.value <= auroc.high
    assert 0.3 < auroc.value < 0.7
    assert any("outer folds" in line for line in search_lines(record))
    with pytest.raises(UsageError, match="--nested: expected --trials"):
        run(study, tmp_path, nested=True)


def test_test_participants_play_no_part_in_the_nested_search(tmp_path: Path) -> None:
    study = make_study(48, effect=1.0)
    before = run(study, tmp_path / "before", trials=2, nested=True, folds=2, **NARROW)
    owner = study.people.set_index("participant_id")["recommended_split"]
    rows = (owner[study.stored.index["participant"]] == "test").to_numpy()
    study.stored.pooled[rows] += 9
    after = run(study, tmp_path / "after", trials=2, nested=True, folds=2, **NARROW)
    assert before.record.fitted.search == after.record.fitted.search


def test_seeds_give_a_range_around_their_mean(study: Study, tmp_path: Path) -> None:
    record = run(study, tmp_path, "lgbm", seeds=3, seed=5).record
    found = record.fitted.seed_sensitivity
    assert found is not None
    assert found["seeds"] == [5, 6, 7]
    for metric, line in found["metrics"].items():
        assert line["by_seed"][0] == record.judged.metrics["participant"]["val"][metric].value
        assert line["lowest"] <= line["mean"] <= line["highest"]
        assert "low" not in line
    assert len(seed_lines(found)) == 2
    assert run(study, tmp_path, "lgbm").record.fitted.seed_sensitivity is None


def test_a_searched_run_keeps_its_journal_and_says_that_it_goes_on(tmp_path: Path) -> None:
    study = make_study(48, effect=1.0)
    said: list[str] = []
    first = run(study, tmp_path, "knn", trials=2)
    second = run(study, tmp_path, "knn", trials=3, said=said)
    assert any("resumed at trial 2 of 3" in line for line in said)
    assert (first.folder / "search.journal").stat().st_size > 0
    assert first.record.fitted.search is not None
    assert second.record.fitted.search is not None
    assert second.record.fitted.search["history"][:2] == first.record.fitted.search["history"]
    assert second.record.fitted.features["layer"] == second.record.fitted.search["best"]["features"]["layer"]


def test_one_site_only_is_said_and_everything_else_is_there(tmp_path: Path) -> None:
    study = make_study(64, effect=2.0)
    study.people["clinical_site"] = "UW"
    study.people["participant_id"] = "1" + study.people["participant_id"].str[1:]
    index = study.stored.index
    index["participant"] = "1" + index["participant"].str[1:]
    index["site"] = "UW"
    record = run(study, tmp_path).record
    missing = {line["name"]: line["reason"] for line in record.rivals.baselines_missing}
    assert "one site (UW)" in missing["site"]
    assert record.judged.metrics["participant"]["val"]["macro_auroc"].value > 0.7


def test_a_constant_feature_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    study = make_study(64, effect=2.0)
    study.stored.pooled[..., 3] = 7.0
    record = run(study, tmp_path).record
    assert record.fitted.features["constant"] == 1
    assert record.judged.metrics["participant"]["val"]["macro_auroc"].value > 0.7


def test_rows_that_are_no_numbers_are_left_out_and_said(tmp_path: Path) -> None:
    study = make_study(64, effect=2.0)
    study.stored.pooled[5] = np.nan
    record = run(study, tmp_path).record
    assert any(step["kind"] == "excluded" and step["volumes"] == 1 for step in record.cohort.flow)
