"""What is worked on by several cores is the same as by one, to the last bit."""

from threading import Barrier

import numpy as np
import pytest

from classify import on_cores
from classify.features.standardise import Standardiser
from classify.heads import multinomial
from classify.heads.multinomial import make_design, solve


def with_cores(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(on_cores, "usable_cores", lambda: cores)


def test_items_are_side_by_side_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cores(monkeypatch, 3)
    together = Barrier(3, timeout=30)  # which nobody passes alone

    def square(number: int) -> int:
        together.wait()
        return number**2

    assert on_cores.on_cores(square, range(6)) == [0, 1, 4, 9, 16, 25]
    with_cores(monkeypatch, 1)
    assert on_cores.on_cores(lambda number: number + 1, range(3)) == [1, 2, 3]


@pytest.mark.parametrize("double", [False, True])
def test_numbers_do_not_depend_on_how_many_there_are(monkeypatch: pytest.MonkeyPatch, double: bool) -> None:
    monkeypatch.setattr(on_cores, "PART_ROWS", 100)
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    rng = np.random.default_rng(0)
    x, protocol = rng.normal(3.0, 2.0, size=(730, 20)).astype(np.float32), rng.choice(["a", "b"], 730)
    codes, weights = rng.integers(0, 3, 730), rng.uniform(0.5, 2.0, 730)
    found = []
    for cores in (1, 3):
        with_cores(monkeypatch, cores)
        standardiser = Standardiser.fit(x, protocol)
        rows = standardiser.transform(x, protocol)
        tol = 1e-9 if double else None
        (solution,) = solve(make_design(rows, codes, weights, 3), [0.1], tol=tol, max_iter=500)
        found.append((standardiser.mean, standardiser.scale, rows, solution.coef, solution.intercept))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
