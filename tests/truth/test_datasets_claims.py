"""What is said over several datasets is true where the truth is known: the quick form of datasets_cohorts."""

import datasets_cohorts as datasets
import pytest
from scipy.stats import binom

DRAWS = 80


@pytest.mark.parametrize("truth", [datasets.BETTER, datasets.NULL])
def test_both_intervals_cover_and_equal_encoders_do_not_win(
    truth: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "REPLICATES", 200)
    found = datasets.study(truth, DRAWS)
    fewest, most = binom.ppf(0.005, DRAWS, 0.93) / DRAWS, binom.ppf(0.995, DRAWS, 0.97) / DRAWS
    assert fewest <= found.these <= most
    assert fewest <= found.like_these <= most
    if truth == datasets.NULL:
        assert max(found.won, found.won_like) <= binom.ppf(0.995, DRAWS, 0.05) / DRAWS
    else:
        assert found.won > 0.5
