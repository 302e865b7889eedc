"""The batched solver finds the optimum that scikit-learn finds, whatever the shape, the weights and the company."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from classify.heads import multinomial
from classify.heads.contract import TrainingRows, softmax
from classify.heads.linear import LinearHead
from classify.heads.multinomial import make_design, solve
from classify.heads.multinomial_lbfgs import Problem
from embeddings_store.errors import UsageError

STRENGTHS = (1e-4, 1e-2, 1e-1, 1.0, 10.0)


def make_rows(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose spectrum falls as that of embeddings does, off centre, and uneven weights."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    rows = rng.normal(size=(n, d)) / np.sqrt(1 + np.arange(d)) + rng.normal(size=d)
    rows[:, 0] += 0.5 * codes
    return rows, codes, rng.uniform(0.2, 3.0, n)


def probabilities(x: np.ndarray, solutions: Sequence[multinomial.Solution]) -> list[np.ndarray]:
    return [softmax(x @ one.coef.T + one.intercept) for one in solutions]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(300, 40), (60, 150)])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_those_of_scikit_learn(classes: int, n: int, d: int, weighted: bool) -> None:
    x, codes, weights = make_rows(2 * n, d, classes)
    fit, held = slice(0, n), slice(n, None)
    weights = weights if weighted else np.ones(2 * n)
    design = make_design(x[fit], codes[fit], weights[fit], classes)
    found = probabilities(x[held], solve(design, STRENGTHS, tol=3e-7, max_iter=1000))
    for strength, ours in zip(STRENGTHS, found, strict=True):
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000, solver="newton-cg")
        theirs.fit(x[fit], codes[fit], weights[fit])
        np.testing.assert_allclose(ours, theirs.predict_proba(x[held]), atol=1e-4)


def test_the_head_agrees_with_scikit_learn_at_five_strengths() -> None:
    x, codes, weights = make_rows(400, 30, 4)
    labels = np.array(["d", "b", "c", "a"])[codes]
    for strength in STRENGTHS:
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000).fit(x, labels, weights)
        ours = LinearHead(C=strength).fit(x, labels, weights)
        assert ours.classes_.tolist() == theirs.classes_.tolist()
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)
        np.testing.assert_allclose(ours.coef_.sum(axis=0), 0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(5, 60), d=st.integers(1, 40), classes=st.integers(2, 4))
def test_the_gradient_is_zero_at_the_end(seed: int, n: int, d: int, classes: int) -> None:
    """The optimum is where (weighted residual)' X + coef / C = 0 and the residuals sum to 0; it is the only one."""
    x, codes, weights = make_rows(n, d, classes, seed)
    design = make_design(x, codes, weights, classes)
    for strength, one in zip(STRENGTHS, solve(design, STRENGTHS, tol=1e-9, max_iter=3000), strict=True):
        residual = (softmax(x @ one.coef.T + one.intercept) - np.eye(classes)[codes]) * weights[:, None]
        scale = weights.sum() * np.abs(x).max()
        pull = one.coef / strength * (2 if classes == 2 else 1)
        assert np.abs(residual.T @ x + pull).max() < 1e-6 * scale
        assert np.abs(residual.sum(axis=0)).max() < 1e-6 * weights.sum()
        assert one.gradient <= 1e-9


def test_a_weight_of_two_is_a_row_twice() -> None:
    x, codes, _ = make_rows(80, 12, 3)
    counts = np.random.default_rng(1).integers(0, 4, 80)
    once = solve(make_design(x, codes, counts.astype(np.float64), 3), STRENGTHS, tol=1e-8, max_iter=1000)
    repeated = np.repeat(np.arange(80), counts)
    design = make_design(x[repeated], codes[repeated], np.ones(len(repeated)), 3)
    twice = solve(design, STRENGTHS, tol=1e-8, max_iter=1000)
    for one, two in zip(probabilities(x, once), probabilities(x, twice), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_company_does_not_change_an_optimum() -> None:
    x, codes, weights = make_rows(200, 25, 4)
    design = make_design(x, codes, weights, 4)
    together = probabilities(x, solve(design, STRENGTHS, tol=3e-7, max_iter=1000))
    for strength, ours in zip(STRENGTHS, together, strict=True):
        (alone,) = probabilities(x, solve(design, [strength], tol=3e-7, max_iter=1000))
        np.testing.assert_allclose(ours, alone, atol=1e-5)


def test_single_precision_goes_the_way_and_double_precision_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes, weights = make_rows(300, 60, 4)
    double = make_design(x, codes, weights, 4)
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    monkeypatch.setattr(multinomial, "ROWS_AT_ONCE", 128)
    both = make_design(x, codes, weights, 4)
    assert double.single is None
    assert {np.dtype(matrix.dtype) for matrix in both.single} == {np.dtype(np.float32)}
    one, two = (solve(design, STRENGTHS, tol=1e-9, max_iter=1000) for design in (double, both))
    for ours, theirs in zip(probabilities(x, one), probabilities(x, two), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert max(solution.gradient for solution in two) <= 1e-9


def test_narrow_directions_take_no_more_passes_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    x = (rng.normal(size=(900, 60)) * 10.0 ** -np.linspace(0, 4, 60)) @ turned
    x, weights = (x / x.std(axis=0)).astype(np.float32), np.ones(900)
    codes = np.where(rng.random(900) < 0.5, rng.integers(0, 4, 900), (2 * x[:, 0]).astype(int) % 4)

    def passes() -> int:
        return solve(make_design(x, codes, weights, 4), [1000.0], tol=None, max_iter=3000)[0].passes

    exact = passes()
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    ahead = passes()
    monkeypatch.setattr(multinomial, "TURNED_TO", 0)
    inside = passes()
    assert ahead <= exact + 5
    assert exact + 5 < inside <= exact + 25  # of both precisions together


@pytest.mark.parametrize("signal", [0.5, 2.5])
@pytest.mark.parametrize(("people", "scans"), [(360, 1), (360, 8), (90, 24)])
def test_what_few_passes_reach_is_near_for_new_rows(
    people: int, scans: int, signal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    d, rng = 60, np.random.default_rng(0)
    codes = np.repeat(np.arange(people) % 4, scans)
    rows = np.repeat(rng.normal(size=(people, d)), scans, axis=0) + rng.normal(size=(people * scans, d))
    rows[:, :8] += signal * codes[:, None]
    x = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    new, weights = 1.5 * rng.normal(size=(2000, d)), np.full(len(codes), 1 / scans)
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    design = make_design(x, codes, weights, 4)
    usual, exact = (solve(design, STRENGTHS, tol=tol, max_iter=3000) for tol in (None, 1e-9))
    easy = [one.gradient > multinomial.TOL for one in usual]
    assert any(easy)
    both = zip(easy, probabilities(new, usual), probabilities(new, exact), strict=True)
    for ours, best in (pair for was_easy, *pair in both if was_easy):
        np.testing.assert_allclose(ours, best, atol=1e-4)
    if signal > 1:  # classes nearly apart: large strengths need many passes, and so go on to the end
        assert not easy[-1]


@pytest.mark.parametrize(("off", "shared"), [(1.0, True), (3000.0, False)])
def test_rows_far_from_zero_are_centred_before_they_are_rounded(
    off: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, codes, weights = make_rows(600, 20, 4)
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    monkeypatch.setattr(multinomial, "TURNED_TO", 0)
    rounded = ((x - x.mean(axis=0)) / x.std(axis=0) + off).astype(np.float32)
    design = make_design(rounded, codes, weights, 4)
    assert np.shares_memory(design.single[0].x, rounded) == shared
    exact = make_design(rounded.astype(np.float64), codes, weights, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, best = (solve(one, STRENGTHS, tol=1e-8, max_iter=1000) for one in (design, exact))
    for one, other in zip(ours, best, strict=True):
        np.testing.assert_allclose(one.coef, other.coef, atol=1e-6)
        assert one.passes <= other.passes + 8


@pytest.mark.parametrize("single_from", [1, 10**9])
def test_torch_finds_what_numpy_finds(single_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multinomial, "SINGLE_FROM", single_from)
    x, codes, weights = make_rows(150, 40, 4)
    by_numpy, by_torch = (
        probabilities(x, solve(make_design(x, codes, weights, 4, device), STRENGTHS, tol=3e-7, max_iter=1000))
        for device in ("cpu", "cpu:0")
    )
    for ours, theirs in zip(by_numpy, by_torch, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_same_rows_give_the_same_bits() -> None:
    x, codes, weights = make_rows(200, 30, 4)
    one, two = (solve(make_design(x, codes, weights, 4), STRENGTHS, tol=3e-7, max_iter=1000) for _ in range(2))
    for ours, again in zip(one, two, strict=True):
        assert (ours.coef == again.coef).all()
        assert (ours.intercept == again.intercept).all()


def test_features_that_never_vary_and_few_passes() -> None:
    x, codes, weights = make_rows(50, 4, 2)
    x[:, 1] = 7.0
    (solution,) = solve(make_design(x, codes, weights, 2), [1.0], tol=1e-8, max_iter=1000)
    assert np.abs(solution.coef[:, 1]).max() < 1e-9
    with pytest.warns(ConvergenceWarning, match="after 2 passes"):
        solve(make_design(x, codes, weights, 2), [1.0], tol=1e-8, max_iter=2)
    with pytest.raises(ValueError, match="C: expected positive"):
        solve(make_design(x, codes, weights, 2), [1.0, 0.0], tol=1e-8, max_iter=2)


def test_a_gpu_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA GPU"):
        LinearHead(device="cuda").fit(*make_rows(20, 2, 2)[:2])


def test_a_grid_is_solved_at_once_and_equals_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes, weights = make_rows(200, 12, 4)
    parts = [TrainingRows(x[rows], codes[rows], weights[rows]) for rows in (slice(0, 120), slice(50, 200))]
    candidates = [{"C": 0.01}, {"C": 1.0}, {"C": 0.1, "tol": 1e-8}]
    calls: list[int] = []
    only = Problem.origin
    monkeypatch.setattr(Problem, "origin", lambda self: calls.append(len(self.scale)) or only(self))
    fitted = LinearHead.fit_grid(parts, candidates, random_state=3)
    assert calls == [2, 1, 2, 1]  # what shares a tolerance is solved together, for each part
    for part, heads in zip(parts, fitted, strict=True):
        for candidate, head in zip(candidates, heads, strict=True):
            alone = LinearHead(random_state=3, **candidate).fit(part.x, part.y, part.weights)
            prepared = LinearHead(random_state=3, **candidate).fit_prepared(LinearHead.prepare(part))
            assert head.get_params() == alone.get_params()
            np.testing.assert_allclose(head.predict_proba(x), alone.predict_proba(x), atol=1e-5)
            np.testing.assert_array_equal(prepared.predict_proba(x), alone.predict_proba(x))
