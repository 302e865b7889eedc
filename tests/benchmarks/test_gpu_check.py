"""The checks for a GPU run here on the CPU, tiny: on a lent GPU there is no time to mend them."""

import json
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
from gpu_checks import CHECKS


def test_all_checks_run_and_the_table_is_written(tmp_path: Path) -> None:
    """In a process of its own, where its stand-ins for a store and a loader are not held against their types."""
    out = tmp_path / "results" / "gpu.json"
    words = [sys.executable, gpu_check.__file__, "--tiny", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert told["tiny"] is True
    assert told["device"].startswith("CPU")
    assert {row["check"] for row in told["rows"]} == set(CHECKS)
    assert [row for row in told["rows"] if "failed" in row] == []


def test_a_check_that_fails_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: gpu_check.Check) -> None:
        raise ValueError("tokens differ")

    monkeypatch.setitem(CHECKS, "parity", fail)
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--tiny", "--only", "parity,ceilings", "--out", str(out)]) == 1
    rows = json.loads(out.read_text())["rows"]
    assert rows[0] == {"check": "parity", "failed": "ValueError: tokens differ"}
    assert "bf16_tflops" in rows[2]
    with pytest.raises(SystemExit, match="unknown nothing"):
        gpu_check.main(["--tiny", "--only", "nothing"])
