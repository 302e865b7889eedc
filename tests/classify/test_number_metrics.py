"""Metrics of numbers agree with scikit-learn and SciPy, weigh as repetition does, and are absent where undefined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as peer

from classify.comparing.study_tables import prediction_lines
from classify.judging.bootstrap import draw_replicates, measure, paired_differences
from classify.judging.kinds import CLASSES, NUMBERS, measures_of, sign_of
from classify.judging.number_calibration import HALF_WIDTH, SHARE, _report, choose_line
from classify.judging.number_metrics import OVERALL, number_metrics, why_absent
from classify.judging.permutation import permute_labels, permuted_numbers
from classify.judging.rivals import compare_with_rivals, is_above_all
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions


def predictions(truth: np.ndarray, said: np.ndarray, participant: np.ndarray | None = None) -> Predictions:
    names = np.array([f"{number:04d}" for number in range(len(truth))])
    column = said[:, None].astype(np.float64)
    people = names if participant is None else participant
    return Predictions("m", "participant", "val", names, people, truth.astype(np.float64), column, column)


def peers(truth: np.ndarray, said: np.ndarray) -> dict[str, float]:
    line = stats.linregress(said, truth)
    apart = said - truth
    limits = 1.96 * apart.std(ddof=1)
    return {
        "r2": peer.r2_score(truth, said),
        "mean_absolute_error": peer.mean_absolute_error(truth, said),
        "root_mean_squared_error": peer.root_mean_squared_error(truth, said),
        "spearman": stats.spearmanr(truth, said).statistic,
        "calibration_slope": line.slope,
        "calibration_intercept": line.intercept,
        "bland_altman_bias": apart.mean(),
        "bland_altman_low": apart.mean() - limits,
        "bland_altman_high": apart.mean() + limits,
    }


@given(st.integers(0, 10_000), st.integers(3, 60), st.sampled_from([0.0, 300.0, 1e5]), st.booleans())
def test_each_metric_is_that_of_its_peer_also_where_units_repeat(seed: int, n: int, centre: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = centre + rng.normal(0, 5, n)
    said = centre + 0.5 * (truth - centre) + rng.normal(0, 3, n)
    if ties:
        truth, said = truth.round(), said.round()
    weights = rng.multinomial(n, np.full(n, 1 / n), size=3).T.astype(np.float64)
    weights[:, 0] = 1
    found = number_metrics(truth, said, weights)
    assert set(found) == set(OVERALL)
    for column in range(3):
        rows = np.repeat(np.arange(n), weights[:, column].astype(int))
        if np.ptp(truth[rows]) == 0 or np.ptp(said[rows]) == 0:
            continue
        wanted = peers(truth[rows], said[rows])
        for name, value in wanted.items():
            scale = max(1.0, abs(value), centre if name.startswith("calibration_intercept") else 0)
            assert abs(found[name][column] - value) < 1e-9 * scale, name


def test_what_is_not_defined_is_no_number_and_says_why() -> None:
    once = np.ones((5, 1))
    same, rising = np.full(5, 7.0), np.arange(5.0)
    assert {name for name, value in number_metrics(same, rising, once).items() if not np.isfinite(value[0])} == {
        "r2",
        "spearman",
    }
    assert {name for name, value in number_metrics(rising, same, once).items() if not np.isfinite(value[0])} == {
        "spearman",
        "calibration_slope",
        "calibration_intercept",
    }
    assert why_absent("r2", same, ()) == "everybody judged has the same value (7)"
    assert "everybody is given the same number" in why_absent("calibration_slope", rising, ())
    assert why_absent("r2", rising[:1], ()) == "one unit is judged; this needs two"
    table, _ = measure(predictions(same, rising), draw_replicates(np.arange(5).astype(str), replicates=50, seed=0), ())
    assert table["r2"] == Estimate(absent="everybody judged has the same value (7)")


def test_a_task_without_classes_is_of_numbers_and_others_stay_as_they_were() -> None:
    assert measures_of(()) is NUMBERS and measures_of(("a", "b")) is CLASSES
    assert NUMBERS.headline == ("r2", "mean_absolute_error") and NUMBERS.searched_by == "r2"
    assert CLASSES.headline == ("balanced_accuracy", "macro_auroc") and CLASSES.searched_by == "macro_auroc"
    assert sign_of("mean_absolute_error") == -1 and sign_of("r2") == sign_of("macro_auroc") == 1


def test_intervals_and_differences_go_by_participant_and_an_error_that_falls_is_better() -> None:
    rng = np.random.default_rng(3)
    people = np.repeat([f"{number:03d}" for number in range(60)], 2)
    truth = np.repeat(rng.normal(0, 5, 60), 2)
    good, bad = truth + np.repeat(rng.normal(0, 1, 60), 2), truth + np.repeat(rng.normal(0, 6, 60), 2)
    ours, theirs = predictions(truth, good, people), predictions(truth, bad, people)
    drawn = draw_replicates(people, replicates=400, seed=1)
    (table, values), (_, others) = (measure(part, drawn, ()) for part in (ours, theirs))
    alone, _ = measure(predictions(truth[::2], good[::2], people[::2]), drawn, ())
    for name in ("r2", "mean_absolute_error", "root_mean_squared_error", "calibration_slope"):
        assert table[name].to_dict() == pytest.approx(
            alone[name].to_dict(), abs=1e-9
        )  # a second eye that says the same says nothing new
    apart = paired_differences(values, others, ours, ())
    assert apart["r2"].low > 0 and apart["mean_absolute_error"].high < 0
    rivals = compare_with_rivals(values, {"age": others}, ours, ())
    assert is_above_all(rivals, "r2") and is_above_all(rivals, "mean_absolute_error")
    turned = compare_with_rivals(others, {"age": values}, ours, ())
    assert not is_above_all(turned, "r2") and not is_above_all(turned, "mean_absolute_error")


def test_few_people_are_too_few_to_say_whatever_their_scans() -> None:
    truth = np.arange(18.0)
    people = np.repeat([f"{number}" for number in range(9)], 2)
    table, _ = measure(predictions(truth, truth + 1, people), draw_replicates(people, replicates=50, seed=0), ())
    assert table["mean_absolute_error"].too_few == "9 participants; intervals need 10"


def test_permuted_numbers_are_those_of_the_metrics_and_a_known_target_is_no_luck() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.normal(10, 2, 40), rng.normal(10, 1, 40)
    dealt = permuted_numbers(said, truth, np.random.default_rng(5), 3)
    again = np.random.default_rng(5).permuted(np.repeat(truth[:, None], 3, axis=1), axis=0)
    for column in range(3):
        wanted = number_metrics(again[:, column], said, np.ones((40, 1)))
        assert all(abs(dealt[name][column] - wanted[name][0]) < 1e-9 for name in dealt)
    known = permute_labels(predictions(truth, truth + said / 10), (), permutations=200, seed=0)["p_values"]
    chance = permute_labels(predictions(truth, said), (), permutations=200, seed=0)["p_values"]
    assert known["r2"].value == known["mean_absolute_error"].value == pytest.approx(1 / 201)
    assert chance["r2"].value > 0.02 and chance["mean_absolute_error"].value > 0.02


def held_out(slope: float, shift: float, noise: float, n: int = 400, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    said = rng.normal(50, 10, n)
    return predictions(shift + slope * said + rng.normal(0, noise, n), said)


def test_calibration_finds_the_line_keeps_what_needs_none_and_says_when_nothing_is_known() -> None:
    name, found, why, losses = choose_line("auto", {"participant": held_out(0.5, 20, 2.0)}, seed=0)
    line = found["participant"]
    assert (name, why) == ("line", "") and losses["line"] < losses["as-is"]
    assert line["slope"] == pytest.approx(0.5, abs=0.03) and line["shift"] == pytest.approx(20, abs=1.5)
    assert line["half_width"] == pytest.approx(1.96 * 2.0, rel=0.15)
    name, found, why, _ = choose_line("auto", {"participant": held_out(0.0, 20, 2.0)}, seed=0)
    assert name == "mean" and "no more than the mean" in why and found["participant"]["slope"] == 0
    name, _, why, _ = choose_line("auto", {"participant": held_out(-0.5, 20, 2.0)}, seed=0)
    assert name == "mean" and why
    name, found, why, _ = choose_line(None, {"participant": held_out(0.5, 20, 2.0)}, seed=0)
    assert (name, why, found["participant"]["slope"]) == ("as-is", "", 1.0)
    _, found, _, _ = choose_line("auto", {"participant": held_out(0.5, 20, 2.0, n=18)}, seed=0)
    assert "half_width" not in found["participant"]


def test_the_interval_holds_95_percent_of_new_people() -> None:
    held = []
    for seed in range(60):
        known, new = held_out(0.7, 5, 3.0, n=120, seed=seed), held_out(0.7, 5, 3.0, n=300, seed=1000 + seed)
        _, found, _, _ = choose_line("auto", {"participant": known}, seed=0)
        line = found["participant"]
        shown = line["shift"] + line["slope"] * new.logits[:, 0]
        held.append(float((np.abs(new.label - shown) <= line["half_width"]).mean()))
    assert 0.935 < float(np.mean(held)) < 0.97


def test_too_few_people_give_no_interval_and_both_outputs_say_so() -> None:
    part = held_out(0.5, 20, 2.0, n=18)
    _, found, _, _ = choose_line("auto", {"participant": part}, seed=0)
    assert HALF_WIDTH not in found["participant"]
    report = _report(part, found["participant"], draw_replicates(part.participant, replicates=20, seed=0))
    assert report["interval"] == Estimate(absent="train has too few participants for an interval of 95%")
    summary = {
        "out_of_distribution": {"percentile": 99, "training_volumes": 18, "distance": 1.0}, "levels": {}, "flags": {},
        "withheld": {}, "known_to_the_run": {}, "classes": [], "probabilities": "numbers", "path": "out.csv",
        "interval": {"half_width": {"participant": None}, "share": SHARE}, "encoder_source": None, "phantom": False,
    }  # fmt: skip
    assert any(line.endswith("train has too few people for low and high") for line in prediction_lines(summary))
