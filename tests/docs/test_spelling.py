"""Words in README, docs and code are spelled as English spells them, and are the words of the field."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_options import Script, scripts
from markdown_pages import PAGES, ROOT
from page_world import PACKAGES

# Anatomy (outer nuclear layer), the SIZ marker of JPEG 2000, a metric of torch_xla.
FIELD_WORDS = "onl,siz,compiletime"

INSTEAD = {
    "told": "says, gives",
    "dealt": "permuted, given",
    "flatter": "too optimistic",
    "flatters": "is too optimistic",
    "flattered": "too optimistic",
    "flattering": "too optimistic",
    "beside": "next to, compared with",
    "crew": "workers",
    "crews": "workers",
    "seat": "worker",
    "seats": "workers",
}
READ_BY_USERS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


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


def unplain(text: str) -> list[str]:
    """Name each refused word with what stands before it, and what to write in its place."""
    words = rf"(?i)(?:\S+\s+){{0,4}}\b({'|'.join(INSTEAD)})\b"
    return [f"{' '.join(found[0].split())}: {INSTEAD[found[1].lower()]}" for found in re.finditer(words, text)]


def help_of(script: Script) -> str:
    done = CliRunner().invoke(script.command, ["--help"], prog_name=script.name)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("path", READ_BY_USERS, ids=lambda path: path.name)
def test_pages_use_plain_words(path: Path) -> None:
    assert unplain(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("script", scripts().values(), ids=lambda script: script.name)
def test_help_uses_plain_words(script: Script) -> None:
    assert unplain(help_of(script)) == []


@pytest.mark.parametrize("word", INSTEAD)
def test_an_unplain_word_is_found(word: str) -> None:
    assert unplain(f"The file is\n{word.capitalize()}.") == [f"The file is {word.capitalize()}: {INSTEAD[word]}"]
    assert unplain(f"The un{word} besides a deal.") == []
