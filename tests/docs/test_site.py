"""The pages become a site, strictly, and a browser needs nothing from outside to show it."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_pages import ROOT

import octprobe

pytest.importorskip("material", reason="mkdocs-material is not installed (extra docs)")
pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings-python is not installed (extra docs)")


class Fetched(HTMLParser):
    """Collect what a browser fetches of its own accord: scripts, styles, pictures, fonts, frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in {"script", "img", "iframe", "source", "video", "audio", "embed"}:
            self.addresses.append(named.get("src") or "")
        elif tag == "link" and named.get("rel") not in {"canonical", "next", "prev", "alternate"}:
            self.addresses.append(named.get("href") or "")


def outside(site: Path) -> list[str]:
    """Name what pages and styles of a site would fetch from elsewhere."""
    pages = [(page, Fetched(page.read_text()).addresses) for page in site.rglob("*.html")]
    sheets = [(s, re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", s.read_text())) for s in site.rglob("*.css")]
    return [
        f"{path.name}: {address}"
        for path, addresses in (*pages, *sheets)
        for address in addresses
        if re.match(r"(https?:)?//", address)
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_browser_needs_nothing_from_outside(site: Path) -> None:
    assert outside(site) == []


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}


def test_the_reference_shows_the_public_names_and_no_others(site: Path) -> None:
    shown = set(re.findall(r'id="octprobe\.(\w+)"', (site / "reference.html").read_text()))
    assert shown == set(octprobe.__all__)


def test_something_from_outside_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="https://x.org">x</a><script src="//cdn.x/a.js"></script>')
    (tmp_path / "a.css").write_text("@font-face{src:url(https://fonts.x/a.woff)}")
    assert outside(tmp_path) == ["a.html: //cdn.x/a.js", "a.css: https://fonts.x/a.woff"]
