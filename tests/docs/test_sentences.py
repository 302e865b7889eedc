"""The list of sentences and their tests in docs/evaluation.md: neither words nor tests that are gone."""

import re
from pathlib import Path

import pytest
from markdown_pages import ROOT

SECTION = "## Sentences and their tests"
ROW = re.compile(r"^\| (?P<words>[^|]+) \| (?P<tests>`[^|]+`) \|$", re.MULTILINE)
JOINT = re.compile(r'"\s*\n?\s*(?:r|f|rf)?"')
SOURCES = [
    path
    for package in ("classify", "finetune", "reports")
    for path in sorted((ROOT / package).rglob("*"))
    if path.suffix in {".py", ".j2"}
]


def listed() -> list[tuple[str, list[str]]]:
    """Give the words of each row, and its tests."""
    text = (ROOT / "docs" / "evaluation.md").read_text()
    section = text[text.index(SECTION) :].split("\n## ", 1)[0]
    return [(row["words"], re.findall(r"`([^`]+)`", row["tests"])) for row in ROW.finditer(section)]


def fixed_words() -> str:
    """Give the source with literals that go on in the next line made one, and markup left out."""
    text = "\n".join(JOINT.sub("", path.read_text()) for path in SOURCES)
    return re.sub(r"\s+", " ", re.sub(r"</?b>", "", text))


def names_of(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)) if path.exists() else set()


def test_the_list_is_there() -> None:
    assert len(listed()) > 60


def test_every_sentence_is_still_printed() -> None:
    source = fixed_words()
    gone = [words for words, _ in listed() if not all(part.strip() in source for part in words.split("…"))]
    assert gone == []


@pytest.mark.parametrize(("words", "tests"), listed())
def test_every_listed_test_exists(words: str, tests: list[str]) -> None:
    assert tests, words
    for name in tests:
        path, _, test = name.partition("::")
        assert test in names_of(ROOT / "tests" / path), name
