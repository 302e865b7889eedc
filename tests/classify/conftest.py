"""Fixtures for classify: a small study with an effect."""

import pytest
from classify_study import Study, make_study


@pytest.fixture
def study() -> Study:
    return make_study(effect=2.0)
