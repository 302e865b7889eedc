"""A small bucket and its tables, made once; and the pages of docs/ as the tests of docs read them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

MADE = ("--participants", "48", "--devices", "zeiss_cirrus", "--scale", "0.1", "--effect", "20", "--seed", "7")


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bucket of 48 phantom people, their table, and one scan: where the examples are typed."""
    folder = tmp_path_factory.mktemp("face")
    made = [sys.executable, "-m", "extract.phantom.cli", "--out", folder / "bucket", *MADE, "--workers", "1"]
    subprocess.run(made, check=True, capture_output=True)
    shutil.copy(folder / "bucket" / "participants.tsv", folder)
    shutil.copy(sorted((folder / "bucket").rglob("*.dcm"))[0], folder / "scan.dcm")
    return folder
