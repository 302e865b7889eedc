"""The doctor measures what int8 tokens would cost, and says where it cannot."""

import numpy as np
import pytest

from extract.doctor.report import Status
from extract.doctor.token_codec import FIGURES, examine_token_codec


def test_it_measures_the_angle() -> None:
    rng = np.random.default_rng(0)
    report, _ = examine_token_codec([rng.standard_normal((50, 64), dtype=np.float32) for _ in range(2)])
    (check,) = report.checks
    assert check.status is Status.OK
    assert "100 tokens" in check.message
    mean, largest = (report.figures[name] for name in FIGURES)
    # A step of max/127 gives an error of step/sqrt(12) a number; the largest of 64 normal numbers is about 2.4.
    assert 0.5 < mean / ((2.4 / 127) ** 2 / 12 / 2) < 2
    assert mean < largest < 4 * mean


@pytest.mark.parametrize("tokens", [[np.full((2, 4), 1e6, np.float32)], []])
def test_what_cannot_be_measured_is_absent_with_a_reason(tokens: list[np.ndarray]) -> None:
    report, _ = examine_token_codec(tokens)
    assert (report.checks, set(report.absent)) == ((), set(FIGURES))
