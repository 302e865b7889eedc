"""The list of sentences and their tests in docs/evaluation.md: no words or tests that are gone, and none that lack."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_pages import ROOT

SECTION = "## Sentences and their tests"
ROW = re.compile(r"^\| (?P<words>[^|]+) \| (?P<tests>`[^|]+`) \|$", re.MULTILINE)
FEWEST_LETTERS = 20
JOINT = re.compile(r'"\s*\n?\s*(?:r|f|rf)?"')
SOURCES = [
    path
    for package in ("classify", "finetune", "reports")
    for path in sorted((ROOT / package).rglob("*"))
    if path.suffix in {".py", ".j2"}
]

JUDGES = re.compile(
    r"optimistic|can be claimed|[Nn]ot shown|calibration possible|(?<!ower is )\bbetter\b|\bworse\b|too few|doubtful|"
    r"overconfident|too (sure|timid|high)|not known|on trust|untouched|nothing is claimed|chosen as|leaned|"
    r"cannot be known|says? (nothing|no more)|stand in for|looked at|stays? locked|not answered|no answer|taken for|"
    r"may be missed|not in training|not judged|at random|helped by|by luck|shrinks|no test\b|may go with"
)
"""Words by which a sentence says what may be believed, and not what was done."""

NO_FINDING = {
    "splitting.py": "--split-column NAME of a column",  # what to type instead
    "model_card.py": "Groups for which it was not judged",  # a heading of the investigator's part
    "stored.py": "the head begins with",  # how training rounds
    "cli.py": "Train the encoder end to end",  # a command's help
}
"""Beginnings of what has such a word and judges nothing."""


def said_in(path: Path) -> Iterator[str]:
    """Give each string of a module as it may be printed, with … for what is filled in; not docstrings and errors."""
    tree = ast.parse(path.read_text())
    silent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            silent.add(id(node.value))
        elif isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "Option"):
            silent |= {id(part) for part in ast.walk(node)}
        elif isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in silent:
            continue
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        words = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
        if isinstance(node, ast.JoinedStr | ast.Constant) and all(isinstance(one, str) for one in words):
            text = re.sub(r"</?b>", "", "".join(map(str, words)))
            yield re.sub(r"\{[^}]*\}", "…", re.sub(r"\s+", " ", text)).strip()


def judging_sentences() -> Iterator[tuple[str, str]]:
    """Give the module and the words of all that judge, of the terminal's and the pages' sentences."""
    for path in (path for path in SOURCES if path.suffix == ".py"):
        for said in said_in(path):
            begins = NO_FINDING.get(path.name)
            if len(said) > FEWEST_LETTERS and JUDGES.search(said) and not (begins and said.startswith(begins)):
                yield path.name, said


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


def test_every_sentence_that_judges_is_listed() -> None:
    """Each has the words of a row: all of them, or a part that is long enough to be nobody else's."""
    rows = [[part.strip() for part in words.split("…") if part.strip()] for words, _ in listed()]
    found = list(judging_sentences())
    assert len(found) > 60
    missing = [
        (name, said)
        for name, said in found
        if not any(
            all(part in said for part in parts) or any(len(part) > FEWEST_LETTERS and part in said for part in parts)
            for parts in rows
        )
    ]
    assert missing == []


def test_a_sentence_that_judges_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "page.py"
    path.write_text(
        '"""Nothing can be claimed of docs."""\n'
        'CLAIMS = {"a": "Nothing can be claimed: " "{why}."}\n'
        "def say(n):\n"
        '    "it was chosen as the best by luck"\n'
        '    raise ValueError("too few people to say")\n'
        '    return f"the best of {n}: its number is too <b>optimistic</b>"\n'
    )
    assert [said for said in said_in(path) if JUDGES.search(said)] == [
        "Nothing can be claimed: ….",
        "the best of …: its number is too optimistic",
    ]


@pytest.mark.parametrize(("words", "tests"), listed())
def test_every_listed_test_exists(words: str, tests: list[str]) -> None:
    assert tests, words
    for name in tests:
        path, _, test = name.partition("::")
        assert test in names_of(ROOT / "tests" / path), name
