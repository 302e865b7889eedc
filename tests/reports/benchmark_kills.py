"""A benchmark killed again and again ends with the same record as one that was left alone.

``python tests/reports/benchmark_kills.py --kills 50`` kills as often as the plan's promise says; the suite does a few.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]


def kill_often(folder: Path, kills: int, *, seed: int = 0, people: int = 16) -> list[str]:
    """Run one benchmark undisturbed and one that is killed so often; give the parts of the record that differ."""
    from benchmark_world import make_buckets, without_when

    make_buckets(folder, people)
    began = time.monotonic()
    _start(folder, "alone").wait()
    whole_s, rng, killed = time.monotonic() - began, random.Random(seed), 0
    while killed < kills:
        process = _start(folder, f"killed-{killed // 5}")  # a fresh folder after five, so that early kills come again
        try:
            process.wait(timeout=rng.uniform(0.1, 0.8) * whole_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        killed += 1
    first, *others = (
        without_when(_finish(folder, name)) for name in ("alone", *(f"killed-{n}" for n in range((kills + 4) // 5)))
    )
    return sorted({name for other in others for name in first if first[name] != other[name]})


def _start(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "reports.classify_command",
        "benchmark",
        str(folder / "plan.yaml"),
        "--device",
        "cpu",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--out", str(folder / name)], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _finish(folder: Path, name: str) -> dict[str, object]:
    from benchmark_world import run_plan

    return run_plan(folder, out=folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        differ = kill_often(Path(place), asked.kills, seed=asked.seed)
    print(f"{asked.kills} kills: {'the same record' if not differ else 'other: ' + ', '.join(differ)}")
    sys.exit(bool(differ))
