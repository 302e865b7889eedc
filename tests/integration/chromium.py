"""A headless browser for pages on disk: Debian's chromium, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass
class OpenPage:
    """A page in the browser, and what it said and asked for while it was open."""

    page: Any
    said: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


Open = Callable[..., AbstractContextManager[OpenPage]]
"""open_page, in a browser that the tests of a file share."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start the browser; a test that asks for it is skipped where there is none."""
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("chromium is not installed (make tools)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, path: Path, *, width: int = 1280, dark: bool = False) -> Iterator[OpenPage]:
    """Open one file, in a profile of its own. requested: addresses beside the file itself and its own data URIs."""
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme="dark" if dark else "light")
    opened = OpenPage(page)
    address = path.resolve().as_uri()
    page.on("console", lambda message: opened.said.append(message.text))
    page.on("pageerror", lambda error: opened.said.append(str(error)))
    page.on("dialog", lambda dialog: (opened.said.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: opened.requested.append(asked.url) if not asked.url.startswith(("data:", address)) else None,
    )
    page.goto(address)
    yield opened
    page.close()
