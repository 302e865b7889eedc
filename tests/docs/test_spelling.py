"""Words in README, docs and code are spelled as English spells them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_pages import PAGES, ROOT
from page_world import PACKAGES

# Anatomy (outer nuclear layer), the SIZ marker of JPEG 2000, a metric of torch_xla.
FIELD_WORDS = "onl,siz,compiletime"


def misspelled(*paths: Path) -> list[str]:
    program = Path(sys.executable).parent / "codespell"
    if not program.exists() and shutil.which("codespell") is None:
        pytest.skip("codespell is not installed (extra dev)")
    command = [str(program), "--ignore-words-list", FIELD_WORDS, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def test_pages_are_spelled_well() -> None:
    assert misspelled(*PAGES, ROOT / "CITATION.cff", ROOT / "mkdocs.yml") == []


def test_code_is_spelled_well() -> None:
    assert misspelled(*(ROOT / package for package in PACKAGES)) == []


def test_a_misspelling_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("Recieve it.\n")
    assert len(misspelled(tmp_path / "page.md")) == 1
