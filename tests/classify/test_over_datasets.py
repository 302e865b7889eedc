"""Statistics over encoders and datasets: as other libraries, published examples and their own definitions say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from classify.cohort.table import facts_of
from classify.comparing.leaderboard import Entry
from classify.comparing.over_datasets import mean_difference
from classify.comparing.ranks import critical_difference, friedman, join_alike, rank_models
from classify.comparing.to_reference import compare_to, draw_entries, two_sided_p
from classify.judging.holm import adjust_holm
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

CLASSES = ("healthy", "sick")


def entry(name: str, signal: float, *, kind: str = "model", people: int = 120, seed: int = 0) -> Entry:
    rng = np.random.default_rng([seed, len(name)])
    label = np.arange(people) % 2
    score = label * signal + rng.normal(size=people)
    logits = np.stack([-score / 2, score / 2], axis=1)
    unit = np.array([f"P{number:03d}" for number in range(people)])
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Entry(name, kind, Predictions(name, "participant", "val", unit, unit, label, logits, probability), {})


def test_each_model_is_compared_with_the_reference_and_adjusted() -> None:
    entries = [entry("ref", 0.5), entry("strong", 2.5), entry("equals", 0.5), entry("floor", 2.0, kind="baseline")]
    drawn = draw_entries(entries, CLASSES, replicates=400, seed=0)
    found = compare_to({"strong": "ref", "equals": "ref"}, drawn) | {"floor": drawn.minus("floor", "ref")}
    for metric in ("balanced_accuracy", "macro_auroc"):
        strong, equal = found["strong"][metric], found["equals"][metric]
        assert strong.p < 0.05 < equal.p
        assert {name: found[name][metric].holm for name in ("strong", "equals")} == adjust_holm(
            {"strong": strong.p, "equals": equal.p}
        )
        assert strong.of == 2
        assert found["floor"][metric].holm is None
        for name in found:
            measured = found[name][metric]
            assert (measured.p < 0.05) == (measured.low > 0 or measured.high < 0), (name, metric)


def test_few_people_and_undefined_metrics_have_no_p() -> None:
    few = [entry("ref", 1, people=12), entry("b", 1, people=12)]
    found = draw_entries(few, CLASSES, replicates=50, seed=0).minus("b", "ref")
    assert found["macro_auroc"].too_few
    assert found["macro_auroc"].p is None


def test_p_is_two_sided_symmetric_and_never_zero() -> None:
    drawn = np.random.default_rng(0).normal(1.0, 1.0, 2001)
    assert two_sided_p(drawn) == two_sided_p(-drawn)
    assert two_sided_p(np.full(100, 3.0)) == pytest.approx(2 / 100)
    assert two_sided_p(np.zeros(100)) == 1.0


def test_the_mean_over_datasets_is_that_of_each_and_t_speaks_of_others() -> None:
    rng = np.random.default_rng(1)
    apart = {
        name: np.concatenate([[centre], rng.normal(centre, 0.01, 500)])
        for name, centre in zip("abcd", (1, 2, 3, 6), strict=True)
    }
    found = mean_difference(apart | {"e": np.full(501, np.nan)})
    assert found.datasets == list("abcd")
    assert found.these.value == pytest.approx(3.0)
    assert 2.97 < found.these.low < 3.0 < found.these.high < 3.03
    low, high = stats.ttest_1samp([1, 2, 3, 6], 0).confidence_interval()
    assert (found.like_these.low, found.like_these.high) == pytest.approx((low, high))
    assert found.like_these.p == pytest.approx(stats.ttest_1samp([1, 2, 3, 6], 0).pvalue)
    assert "expected 3" in mean_difference({"a": apart["a"], "b": apart["b"]}).like_these.absent
    few = mean_difference(apart, {"b": "3 participants of sick"}).these
    assert few.too_few == "b: 3 participants of sick"
    assert few.p is None
    assert mean_difference({}).these == Estimate(absent="no dataset has both")


def test_ranks_agree_with_scipy_and_with_demsar() -> None:
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)  # Demsar 2006, 3.2.2
    rng = np.random.default_rng(2)
    for table in (rng.normal(size=(8, 4)), rng.integers(0, 3, (8, 4)).astype(float)):  # without ties, and with them
        ranks = stats.rankdata(-table, axis=1)
        chi2 = stats.friedmanchisquare(*table.T).statistic
        count, models = table.shape
        expected = (count - 1) * chi2 / (count * (models - 1) - chi2)
        assert friedman(ranks)["f"] == pytest.approx(expected)
    assert friedman(np.full((3, 3), 2.0)) == {"f": 0.0, "p": 1.0}
    assert friedman(np.tile([1.0, 2.0, 3.0], (3, 1))) == {"p": pytest.approx(1 / 36)}  # two datasets follow the first
    assert friedman(np.array([[1.0, 2.0], [1.0, 2.0]])) == {"p": 0.5}


def test_datasets_that_lack_a_model_are_left_out_of_ranks_and_named() -> None:
    scores = {"d1": {"a": 0.9, "b": 0.8}, "d2": {"a": 0.7, "b": 0.7}, "d3": {"a": 0.6}}
    found = rank_models(scores)
    assert (found.datasets, found.left_out) == (["d1", "d2"], ["d3"])
    assert found.ranks == {"a": 1.25, "b": 1.75}
    assert "1 models" in rank_models({"d1": {"a": 1.0}, "d2": {"a": 1.0}}).absent
    assert "1 datasets" in rank_models({"d1": {"a": 1.0, "b": 0.0}, "d2": {"a": 1.0}}).absent


def test_models_in_one_reach_are_joined_once() -> None:
    ranks = [("a", 1.0), ("b", 1.5), ("c", 2.4), ("d", 4.0)]
    assert join_alike(ranks, 1.0) == [["a", "b"], ["b", "c"]]
    assert join_alike(ranks, 0.1) == []


def test_the_file_type_is_a_fact_of_a_scan_where_it_differs() -> None:
    rows = pd.DataFrame(
        {"volume": ["a", "b", "c"], "key": ["x/a.l.PNG", "x/1.2.9510.4.dcm", "x/c"], "frames": [8.0, 8.0, 8.0]}
    )
    found = facts_of(rows)
    assert found is not None
    assert found["file_type"].nunique() == 3
    uids = facts_of(rows.assign(key=["1.2.9510.4.dcm", "1.2.22400.4.1.dcm", "a.dcm"]))
    assert uids is not None
    assert len(set(uids["file_type"])) == 1, "numbers of a name are no file type"
    elsewhere = facts_of(rows.iloc[1:])  # a model of one cohort judges another
    assert elsewhere is not None
    assert elsewhere["file_type"].tolist() == found["file_type"].tolist()[1:]
    assert facts_of(rows[["volume", "key"]]) is None
