"""500 simulated cohorts with a known truth: does the 95 % interval cover it in 93 to 97 % of them?"""

import numpy as np
import pytest

from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates, measure, replicate_metrics
from classify.run.predictions import Predictions

CLASSES = ("a", "b", "c", "d")
SHARES = (0.35, 0.25, 0.25, 0.15)
CHECKED = ("balanced_accuracy", "macro_auroc", "quadratic_weighted_kappa", "accuracy", "log_loss", "brier")


def draw_cohort(participants: int, rng: np.random.Generator) -> Predictions:
    """Draw participants anew, classes by SHARES; neighbouring classes are confused more often than distant ones."""
    label = rng.choice(4, size=participants, p=SHARES)
    distance = np.abs(np.arange(4)[None, :] - label[:, None])
    logits = rng.normal(size=(participants, 4)) - 0.6 * distance
    names = np.array([f"{number:06d}" for number in range(participants)])
    return Predictions("m", "participant", "val", names, names, label, logits, softmax(logits))


def true_values() -> dict[str, float]:
    """Measure twenty large cohorts: their mean is the truth to about 0.001."""
    rng = np.random.default_rng(99)
    found = []
    for _ in range(20):
        cohort = draw_cohort(20_000, rng)
        values = replicate_metrics(cohort, draw_replicates(cohort.participant, replicates=1, seed=0), CLASSES)
        found.append([values[name][0] for name in CHECKED])
    return dict(zip(CHECKED, np.mean(found, axis=0).tolist(), strict=True))


def coverage(participants: int, *, cohorts: int, replicates: int, seed: int) -> dict[str, float]:
    """Give the share of cohorts whose interval holds the truth, by metric."""
    truth = true_values()
    rng = np.random.default_rng(seed)
    covered = dict.fromkeys(CHECKED, 0)
    for number in range(cohorts):
        cohort = draw_cohort(participants, rng)
        drawn = draw_replicates(cohort.participant, replicates=replicates, seed=number)
        measured, _ = measure(cohort, drawn, CLASSES)
        for name in CHECKED:
            covered[name] += measured[name].low <= truth[name] <= measured[name].high
    return {name: count / cohorts for name, count in covered.items()}


@pytest.mark.parametrize("participants", [100, 200])
def test_intervals_cover_in_a_short_simulation(participants: int) -> None:
    found = coverage(participants, cohorts=200, replicates=500, seed=1)
    # 95 % expected; both bounds are three standard errors of a binomial from it.
    assert all(0.904 <= share < 0.996 for share in found.values()), found


def test_wrong_intervals_would_be_found() -> None:
    """The same simulation with the truth moved by a tenth covers far less: it can fail."""
    truth = true_values()["macro_auroc"] - 0.1
    rng = np.random.default_rng(2)
    covered = 0
    for number in range(40):
        cohort = draw_cohort(200, rng)
        drawn = draw_replicates(cohort.participant, replicates=100, seed=number)
        measured = measure(cohort, drawn, CLASSES)[0]["macro_auroc"]
        covered += measured.low <= truth <= measured.high
    assert covered < 20


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("participants", [100, 200, 400])
def test_intervals_cover_in_500_cohorts_of_2000_replicates(participants: int) -> None:
    found = coverage(participants, cohorts=500, replicates=2000, seed=3)
    print(participants, found)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found
