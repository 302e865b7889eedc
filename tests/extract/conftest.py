"""Every test that reaches a bucket runs under B2's rules, whether it asks for them or not."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _b2_rules(b2_guard: None) -> None:
    """Fail on a request that B2 would refuse."""
