"""The public module: small, lazy, silent, and every name of it has an example that runs."""

import doctest
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import octprobe

ROOT = Path(__file__).parent.parent.parent
ORDER = ("extract", "open_store", "read_snapshot", "probe", "load_run", "compare")
"""Examples stand on what those before them made; the others follow."""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket of 48 phantom people, their table, and one scan: where the examples are typed."""
    folder = tmp_path_factory.mktemp("face")
    made = [
        "--participants",
        "48",
        "--devices",
        "zeiss_cirrus",
        "--scale",
        "0.1",
        "--effect",
        "20",
        "--seed",
        "7",
        "--workers",
        "1",
    ]
    subprocess.run([sys.executable, "-m", "extract.phantom.cli", "--out", folder / "bucket", *made], check=True)
    shutil.copy(folder / "bucket" / "participants.tsv", folder)
    shutil.copy(sorted((folder / "bucket").rglob("*.dcm"))[0], folder / "scan.dcm")
    return folder


@pytest.fixture(scope="module")
def typed(clinic: Path) -> dict[str, doctest.TestResults]:
    """Run the example of every public name, in one folder."""
    results, finder, runner = {}, doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    before = Path.cwd()
    os.chdir(clinic)
    try:
        for name in sorted(octprobe.__all__, key=lambda one: (ORDER.index(one) if one in ORDER else 99, one)):
            (example,) = finder.find(getattr(octprobe, name), name, module=False, globs={}) or [None]
            assert example is not None, name
            assert example.examples, f"{name} has no example"
            results[name] = runner.run(example)
    finally:
        os.chdir(before)
    return results


@pytest.mark.parametrize("name", octprobe.__all__)
def test_the_example_of_each_name_runs(typed: dict[str, doctest.TestResults], name: str) -> None:
    assert typed[name].attempted > 1
    assert typed[name].failed == 0
