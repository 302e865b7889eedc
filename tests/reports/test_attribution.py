import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool, Float64

from embeddings_store.token_pooling import TOKEN_POOLS
from reports.attribution.faithfulness import faithfulness_curves, map_agreement
from reports.attribution.pooling import region_sums, require_replaceable
from reports.attribution.shapley import coalitions, shapley_values
from reports.attribution.tokens import evidence, linear_shares

Sets = Bool[np.ndarray, "m n"]
Scores = Float64[np.ndarray, "m k"]


def test_shares_of_an_additive_game_are_the_players_own_worth() -> None:
    worth = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])

    def score(sets: Sets) -> Scores:
        return sets @ worth + 7.0

    share, base = shapley_values(3, score)
    np.testing.assert_allclose(share, worth)
    np.testing.assert_allclose(base, 7.0)


@given(st.integers(1, 7), st.integers(0, 10_000))
def test_shares_sum_to_what_all_players_gain(players: int, seed: int) -> None:
    value = np.random.default_rng(seed).normal(size=(2**players, 3))
    share, base = shapley_values(players, lambda sets: value)
    np.testing.assert_allclose(base + share.sum(axis=0), value[-1], atol=1e-9)


def test_shares_are_the_mean_over_all_orders_of_entering() -> None:
    value = np.random.default_rng(1).normal(size=(8, 1))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    gained = np.zeros(3)
    for order in orders:
        held = 0
        for player in order:
            gained[player] += (value[held + (1 << player)] - value[held])[0] / len(orders)
            held += 1 << player
    share, _ = shapley_values(3, lambda sets: value)
    np.testing.assert_allclose(share[:, 0], gained)


def test_a_player_who_changes_nothing_gets_nothing() -> None:
    share, _ = shapley_values(4, lambda sets: (sets[:, [0]] * sets[:, [2]]).astype(float))
    np.testing.assert_allclose(share[:, 0], [0.5, 0.0, 0.5, 0.0])


def test_too_many_players_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        coalitions(20)


def test_pooling_from_sums_equals_pooling_of_replaced_tokens() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.normal(3, 1, (40, 5)).astype(np.float16)
    label = rng.integers(0, 4, 40)
    label[label == 2] = 1  # a region that no token belongs to
    reference = rng.normal(size=5)
    pools = ("mean", "std", "max", "min")
    sets = coalitions(4)
    found = region_sums(tokens, label, 4, reference).pooled(sets, pools)
    for kept, row in zip(sets, found, strict=True):
        replaced = np.where(kept[label][:, None], tokens.astype(np.float64), reference)
        np.testing.assert_allclose(row, np.hstack([TOKEN_POOLS[pool](replaced) for pool in pools]), atol=1e-9)


def test_a_median_needs_every_token() -> None:
    with pytest.raises(Exception, match="median"):
        require_replaceable(("mean", "median"))


def test_evidence_is_the_log_odds_of_two_classes() -> None:
    p = np.array([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_allclose(evidence(np.log(p))[:, 1], np.log(p[:, 1] / p[:, 0]))


def test_token_shares_add_up_to_the_evidence_of_the_pooled_vector() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(4, 3, 5, 6)).astype(np.float16)
    coef, intercept = rng.normal(size=(4, 6)), rng.normal(size=4)
    mean, scale = rng.normal(size=6), rng.uniform(0.5, 2, 6)
    found = linear_shares(tokens, coef, intercept, mean, scale)
    pooled = tokens.astype(np.float64).reshape(-1, 6).mean(axis=0)
    logits = ((pooled - mean) / scale) @ coef.T + intercept
    np.testing.assert_allclose(found.evidence, evidence(logits[None, :])[0], atol=1e-12)


def additive_score(worth: np.ndarray):
    return lambda kept: kept.astype(np.float64) @ worth


def test_a_true_map_beats_every_random_order_and_a_reversed_one_none() -> None:
    worth = np.random.default_rng(4).normal(size=60)
    true = faithfulness_curves(worth, additive_score(worth), rng=np.random.default_rng(5))
    assert true.deletion_beats == 1.0
    assert true.insertion_beats == 1.0
    assert true.deletion[0] == pytest.approx(true.insertion[-1])
    reversed_map = faithfulness_curves(-worth, additive_score(worth), rng=np.random.default_rng(5))
    assert reversed_map.deletion_beats == 0.0
    assert reversed_map.insertion_beats == 0.0


def test_a_map_that_knows_nothing_beats_about_half_of_the_random_orders() -> None:
    rng = np.random.default_rng(6)
    worth = rng.normal(size=60)
    beats = [
        faithfulness_curves(rng.normal(size=60), additive_score(worth), rng=rng, orders=20).deletion_beats
        for _ in range(60)
    ]
    assert 0.35 < np.mean(beats) < 0.65


def test_agreement_of_maps_is_a_rank_correlation_and_absent_for_a_flat_map() -> None:
    one = np.arange(12.0).reshape(3, 4)
    assert map_agreement(one, one**3) == pytest.approx(1.0)
    assert map_agreement(one, np.zeros((3, 4))) is None
