"""Fixtures for finetune: one phantom bucket for the whole session; tests that change it take a copy."""

from pathlib import Path

import pytest
from finetune_study import make_bucket


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bucket(tmp_path_factory.mktemp("phantom") / "bucket")
