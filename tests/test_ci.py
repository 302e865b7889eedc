""".ci/run with a make of our own: parts that run together, and what is said of those that fail."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUN = Path(__file__).parent.parent / ".ci" / "run"
LANES = (("venv", "lint"), ("tools", "xla", "test-xla"))
MAKE = """#!/usr/bin/env bash
touch "$MET/$1"
echo "$1 begins"
for _ in {1..400}; do
    [[ $1 != "$FIRST" || -e $MET/$SECOND ]] && break
    sleep 0.05
done
[[ $1 != "$FIRST" || -e $MET/$SECOND ]] || exit 9
echo "$1 warns" >&2
echo "$1 ends"
[[ " $FAILING " != *" $1 "* ]] || exit 7
"""


def environment(folder: Path, *, failing: str = "", first: str = "", second: str = "") -> dict[str, str]:
    """Give the surroundings of a make that fails for some parts, and waits in one part until another has begun."""
    folder.joinpath("make").write_text(MAKE)
    folder.joinpath("make").chmod(0o755)
    asked = {"MET": str(folder), "FAILING": failing, "FIRST": first, "SECOND": second}
    return os.environ | asked | {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}


def run(folder: Path, **asked: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN], env=environment(folder, **asked), capture_output=True, text=True, check=False)


def timed(stderr: str) -> list[str]:
    return [line.rpartition("make ")[2] for line in stderr.splitlines() if " min " in line]


@pytest.mark.parametrize(("first", "second"), [("venv", "xla"), ("xla", "venv"), ("test-xla", "lint")])
def test_parts_run_together_and_each_is_shown_whole_with_its_time(tmp_path: Path, first: str, second: str) -> None:
    done = run(tmp_path, first=first, second=second)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.splitlines()
    for lane in LANES:
        at = [shown.index(f"{part} begins") for part in lane]
        assert at == sorted(at)
        assert [shown[i : i + 3] for i in at] == [[f"{p} begins", f"{p} warns", f"{p} ends"] for p in lane]
    assert shown[-2:] == ["test begins", "test ends"]
    assert sorted(timed(done.stderr)) == sorted(["test", *LANES[0], *LANES[1]])


@pytest.mark.parametrize("part", ["venv", "lint", "xla", "test-xla", "test"])
def test_a_part_that_fails_makes_the_whole_fail_and_is_named(tmp_path: Path, part: str) -> None:
    done = run(tmp_path, failing=part)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1].endswith(f"not run: make {part}")
    assert (tmp_path / "test").exists() == (part == "test")
    assert (tmp_path / "lint").exists() == (part != "venv")
    assert f"{part} ends" in done.stdout


def test_of_two_failures_both_are_named_and_tools_are_only_missed(tmp_path: Path) -> None:
    done = run(tmp_path, failing="tools lint test-xla")
    assert done.returncode == 7
    assert set(done.stderr.splitlines()[-1].partition("not run: ")[2].split(", ")) == {"make lint", "make test-xla"}
    assert "could not be installed" in done.stderr
    assert run(tmp_path, failing="tools").returncode == 0


def test_an_end_from_outside_ends_its_parts(tmp_path: Path) -> None:
    surroundings = environment(tmp_path, first="venv", second="never")
    with subprocess.Popen([RUN], env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while not (tmp_path / "venv").exists():
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, _ = running.communicate(timeout=10)  # a part that is left would hold stderr for as long as it waits
    assert running.returncode == 143
    assert not (tmp_path / "lint").exists()
