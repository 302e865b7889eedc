"""Whatever started the process that extracts, by fork or afresh, the rows are the same, bit by bit."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command

METHODS = ("fork", "spawn", "forkserver")

PARENT = """
import multiprocessing
import sys

from extract.options import ExtractOptions
from extract.pipeline import extract

def run(method):
    bucket, folder = sys.argv[1:3]
    extract(ExtractOptions(bucket=bucket, store=f"{folder}/{method}", encoder="random:tiny", tokens="4x2x2"))

if __name__ == "__main__":
    for method in sys.argv[3:]:
        process = multiprocessing.get_context(method).Process(target=run, args=(method,))
        process.start()
        process.join()
        assert process.exitcode == 0, (method, process.exitcode)
"""


@pytest.mark.slow
def test_rows_are_bit_equal_under_every_start_method(tmp_path: Path, command: Command) -> None:
    """Compressed frames, so that each of them starts decoders of its own, which nothing is inherited by."""
    bucket = tmp_path / "bucket"
    made = command(
        *("oct-phantom", "--out", bucket, "--participants", 1, "--scale", "0.05", "--workers", 1, "--syntax", "jpegls")
    )
    assert made.code == 0, made.stderr
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    line = [sys.executable, str(script), str(bucket), str(tmp_path), *METHODS]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for other in METHODS[1:]:
        same = command("extract-embeddings", "diff", tmp_path / METHODS[0], tmp_path / other, "--json").json
        assert same["common"] > 0
        assert (same["only_a"], same["only_b"], same["different"], same["max_abs"]) == (0, 0, 0, 0.0)
