"""Every error has its paragraph in docs/troubleshooting.md, none is stale, and each message points to it."""

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from pkgutil import walk_packages

import pytest
from command_line import Command
from markdown_pages import ROOT, read_page
from page_world import PACKAGES

from embeddings_store.errors import OctProbeError, VolumeError

PAGE = ROOT / "docs" / "troubleshooting.md"
TREES = [f"{package}.errors" for package in PACKAGES if (ROOT / package / "errors.py").exists()]
HOMES = [*TREES, "embeddings_store.row_checks"]


def error_classes() -> set[str]:
    for name in HOMES:
        import_module(name)
    found, new = set[type[OctProbeError]](), {OctProbeError}
    while new:
        found |= new
        new = {child for kind in new for child in kind.__subclasses__()} - found
    return {kind.__name__ for kind in found if kind.__module__.split(".")[0] in PACKAGES}


def entries() -> set[str]:
    return {heading.strip("`") for heading in read_page(PAGE).headings if heading.startswith("`")}


def test_every_error_has_an_entry_and_no_entry_is_stale() -> None:
    assert entries() == error_classes()


def test_every_module_that_defines_an_error_is_looked_at() -> None:
    defining = set()
    for package in PACKAGES:
        for module in walk_packages([str(ROOT / package)], f"{package}."):
            path = Path(module.module_finder.path) / f"{module.name.rpartition('.')[2]}.py"
            if path.exists() and any(f"class {name}(" in path.read_text() for name in error_classes()):
                defining.add(module.name)
    assert defining == set(HOMES)


def test_an_entry_says_what_to_do() -> None:
    lines = PAGE.read_text().splitlines()
    heads = [at for at, line in enumerate(lines) if line.startswith("#")] + [len(lines)]
    bodies = {lines[at].strip("# `"): "\n".join(lines[at + 1 : end]) for at, end in pairwise(heads)}
    silent = [name for name in entries() if "**What to do**" not in bodies[name]]
    assert silent == []


@pytest.mark.parametrize("arguments", [("classify", "probe"), ("reports", "study")])
def test_a_message_points_to_its_entry(command: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    wanted = {
        "probe": ("--model", "linear", "--store", tmp_path / "none", "--participants", tmp_path / "none.tsv"),
        "study": ("--store", tmp_path / "none", "--runs", tmp_path / "none", "--out", tmp_path / "out"),
    }[arguments[1]]
    said = command(*arguments, *wanted).stderr.splitlines()
    (help_line,) = [line for line in said if line.startswith("help: ")]
    path, _, anchor = help_line.removeprefix("help: ").partition("#")
    assert ROOT / path == PAGE
    assert anchor in read_page(PAGE).anchors


def test_error_rows_are_explained_by_their_class() -> None:
    children = {kind.__name__ for kind in VolumeError.__subclasses__()}
    assert children <= entries()
