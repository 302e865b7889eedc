"""Every test that reaches a bucket runs under B2's rules, whether it asks for them or not; pages share a browser."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from chromium import Open, open_browser, open_page


@pytest.fixture(autouse=True, scope="session")
def _b2_rules(b2_guard: None) -> None:
    """Fail on a request that B2 would refuse."""


@pytest.fixture(scope="module")
def _browser() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(name="open_page")
def _open_page(_browser: Any) -> Open:
    """Open a page in the browser of this file."""
    return partial(open_page, _browser)
