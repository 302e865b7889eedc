"""--model auto: the head is chosen inside train, says so, and costs what it says."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import Study, make_study
from test_nested_search import run

from classify.errors import CohortError
from classify.fitting.model import load_model
from classify.heads import HEADS
from classify.probe_checks import rivals_of
from classify.run.folder import load_run
from classify.run.predictions import Predictions
from classify.run.summary import among_lines, describe_search, search_lines
from classify.search.among import NEAR, compare_rivals, take_among

HEADS_HERE = ("linear", "knn", "forest")


@pytest.fixture
def few_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classify.probe.rivals_of", lambda *_: list(HEADS_HERE))
    made_by = inspect.unwrap(HEADS["forest"].__init__)
    quick = {"n_estimators": 20, "max_features": 0.5, "min_leaf_share": 0.02}
    monkeypatch.setattr(made_by, "__kwdefaults__", {**(made_by.__kwdefaults__ or {}), **quick})


@pytest.mark.usefixtures("few_heads")
def test_the_head_that_did_best_inside_train_is_the_run(study: Study, tmp_path: Path) -> None:
    said: list[str] = []
    done = run(study, tmp_path, "auto", said=said)
    record = done.record.fitted.search
    assert record is not None
    heads = record["among"]["heads"]
    assert [one["model"] for one in heads] == list(HEADS_HERE)
    best, taken = max(heads, key=lambda one: one["value"])["model"], record["among"]["taken"]
    assert taken in (best, "linear")
    assert done.record.fitted.model == taken == load_model(load_run(done.folder)).head.name
    assert 0 <= record["among"]["cost_of_choosing"] < 0.1
    assert sum(line.startswith("auto: ") for line in said) == 3
    (line,) = (line for line in search_lines(record) if line.startswith("auto: "))
    assert line.split("train: ")[1].startswith(best)
    assert describe_search(record).endswith(" by macro_auroc, and one of 3 heads")
    alone = run(study, tmp_path / "alone", taken).record
    assert alone.judged.metrics["participant"] == done.record.judged.metrics["participant"]


@pytest.mark.usefixtures("few_heads")
def test_a_nonlinear_signal_takes_the_forest_and_val_plays_no_part(tmp_path: Path) -> None:
    study = make_study(160)
    group = study.people.set_index("participant_id")["study_group"]
    step = group.map({name: number for number, name in enumerate(sorted(group.unique()))})
    index, pooled = study.stored.index, study.stored.pooled.copy()
    sign = np.random.default_rng(0).choice([-1.0, 1.0], len(index))
    pooled[:, :, :, 1] += (sign * 2.0 * step[index["participant"]].to_numpy())[:, None, None]
    study = Study(study.people, replace(study.stored, pooled=pooled))
    first = run(study, tmp_path, "auto").record
    assert first.fitted.model == "forest"
    owner = study.people.set_index("participant_id")["recommended_split"]
    pooled[(owner[index["participant"]] != "train").to_numpy()] *= -3
    after = run(Study(study.people, replace(study.stored, pooled=pooled)), tmp_path / "after", "auto").record
    assert first.fitted.search == after.fitted.search


@pytest.mark.usefixtures("few_heads")
def test_without_an_effect_it_stays_at_chance_and_repeats_itself(tmp_path: Path) -> None:
    study = make_study(160, effect=0.0, seed=2)
    one, two = (run(study, tmp_path / name, "auto", seed=3).record for name in ("one", "two"))
    measured = one.judged.metrics["participant"]["val"]["macro_auroc"]
    assert measured.low < 0.5 < measured.high
    assert (one.fitted.model, one.fitted.search, one.judged) == (two.fitted.model, two.fitted.search, two.judged)


@pytest.mark.usefixtures("few_heads")
def test_nested_judges_the_choosing_too(tmp_path: Path) -> None:
    record = run(make_study(48, effect=1.0), tmp_path, "auto", nested=True, folds=2).record.fitted.search
    assert record is not None
    chosen = record["nested"]["chosen"]
    assert len(chosen) == record["nested"]["outer_folds"]
    assert {one["model"] for one in chosen} <= set(HEADS_HERE)


def test_only_heads_that_fit_are_rivals(study: Study, tmp_path: Path) -> None:
    from test_search import train_source

    from classify.cohort.tasks import TASKS
    from classify.fitting.source import FeatureSource

    source = train_source(study, tmp_path)
    plain = ["linear", "lgbm", "forest", "mlp", "ordinal", "knn"]
    assert rivals_of(("auto",), "auto", source) == [*plain, "mil"]
    assert rivals_of(("mean",), "best-protocol", source) == plain
    once = source.where(~source.cohort.table["participant"].duplicated().to_numpy())
    assert rivals_of(("auto",), "auto", once) == plain
    with_tokens = FeatureSource(source.cohort, source.pooled, replace(source.space, token_grid=(2, 4, 4)))
    assert {"attentive", "tokens-linear"} < set(rivals_of(("auto",), "auto", with_tokens))
    assert not {"attentive", "tokens-linear"} & set(rivals_of(("mean",), "auto", with_tokens))
    two = replace(source, cohort=replace(source.cohort, task=TASKS["medicated-vs-not"]))
    assert "ordinal" not in rivals_of(("auto",), "auto", two)


def guesses(seed: int, *, effect: float = 0.0, people: int = 200) -> Predictions:
    rng = np.random.default_rng(seed)
    label = np.arange(people) % 2
    score = rng.normal(size=people) + effect * label
    logits = np.column_stack([-score, score])
    names = np.array([f"{number:04d}" for number in range(people)])
    return Predictions("one", "participant", "train", names, names, label, logits, 1 / (1 + np.exp(-2 * logits)))


def test_choosing_among_many_equals_costs_what_the_best_of_them_gains() -> None:
    """Twenty heads that know nothing: the best seems to, and nearly all that it seems to know is the cost."""
    gains, costs = [], []
    for start in range(0, 200, 20):
        best, said = compare_rivals([str(n) for n in range(20)], [guesses(start + n) for n in range(20)], seed=0)
        gains.append(said["heads"][best]["value"] - 0.5)
        costs.append(said["cost_of_choosing"])
    assert np.mean(gains) > 0.05
    assert np.mean(costs) == pytest.approx(np.mean(gains), rel=0.35)
    _, alone = compare_rivals(["one"], [guesses(1)], seed=0)
    assert alone["cost_of_choosing"] < 0.005
    clear, said = compare_rivals(["a", "b"], [guesses(1), guesses(2, effect=2.0)], seed=0)
    assert clear == 1
    assert said["cost_of_choosing"] < 0.005


def test_a_simple_head_is_taken_where_a_better_one_is_ahead_by_chance() -> None:
    models, near = ["lgbm", "linear", "ordinal", "mlp"], NEAR / 10
    ahead = np.array(
        [[0.9 * near, 1.1 * near, 0.0, 0.0], [0.0] * 4, [-0.1, -0.1, 0.01, -np.inf], [-0.2, -0.2, 0.0, 0.5]]
    )
    assert take_among(models, 0.7 + ahead, 100).tolist() == [1, 0, 2, 3]
    assert take_among(models, 0.7 + ahead, 400).tolist() == [0, 0, 2, 3], "of more people less is chance"
    assert take_among(["lgbm", "mlp"], 0.7 + ahead[[0, 3]], 100).tolist() == [0, 0, 0, 1]
    taken, said = compare_rivals(["lgbm", "linear"], [guesses(2, effect=1.02), guesses(2, effect=1.0)], seed=0)
    values = [one["value"] for one in said["heads"]]
    assert 0 < values[0] - values[1] < NEAR / 200**0.5, "the cohort shows what it should"
    assert (taken, said["taken"]) == (1, "linear")
    (line,) = among_lines(said, "macro_auroc")
    assert line.startswith("auto: macro_auroc inside train: lgbm 0.")
    assert "; linear is taken, which is simpler and as good but for chance; linear is 0.0" in line


def test_a_head_without_numbers_is_absent_and_none_at_all_an_error() -> None:
    broken: dict[str, Any] = {"logits": np.full((200, 2), np.nan), "probability": np.full((200, 2), np.nan)}
    best, said = compare_rivals(["a", "b"], [replace(guesses(1), **broken), guesses(2)], seed=0)
    assert best == 1
    assert said["heads"][0]["value"] is None
    assert "a absent" in among_lines(said, "macro_auroc")[0]
    with pytest.raises(CohortError, match="no head has a macro_auroc"):
        compare_rivals(["a"], [replace(guesses(1), **broken)], seed=0)
