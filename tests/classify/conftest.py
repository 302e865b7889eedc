"""Fixtures for classify: a small study with an effect, and fewer fits for a calibrator that nobody looks at."""

import pytest
from classify_study import Study, hold_out_little, make_study


@pytest.fixture
def study() -> Study:
    return make_study(effect=2.0)


@pytest.fixture
def little_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on predictions of three fits: ten of a network take four fifths of a run."""
    hold_out_little(monkeypatch)
