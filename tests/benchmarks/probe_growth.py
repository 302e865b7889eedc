"""How ``classify probe`` grows with the rows of a store, without an encoder: seconds of every stage, and peak memory.

Each probe runs in a process of its own, on a snapshot that is made in memory: random vectors of 768 numbers with a
signal of the person and a smaller one of the class, 24 scans a person. Not part of the test suite.

    export PYTHONPATH=tests:tests/benchmarks OMP_NUM_THREADS=2
    python tests/benchmarks/probe_growth.py --rows 25000,250000 --model linear
    python tests/benchmarks/probe_growth.py --rows 100000 --model lgbm
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from growth_table import SCANS, SPACE, refs, write_people
from peak_memory import resident_mb
from store_makings import WIDTH, snapshot_files

from classify.options import ProbeOptions
from classify.probe import probe
from embeddings_store.command_line import parse_words
from embeddings_store.snapshot import Snapshot

DIRECTIONS = 8


def make_snapshot(rows: int) -> Snapshot:
    """Make what a store of so many volumes would give: vectors, and a line each."""
    rng, person = np.random.default_rng(0), np.arange(rows) // SCANS
    people = int(person[-1]) + 1
    vectors = rng.standard_normal((rows, 1, 1, WIDTH), dtype=np.float32)
    apart = rng.standard_normal((people, WIDTH), dtype=np.float32)
    apart[:, :DIRECTIONS] += 0.5 * (np.arange(people) % 4)[:, None]
    for first in range(0, rows, 4096):
        vectors[first : first + 4096, 0, 0] += apart[person[first : first + 4096]]
    files = snapshot_files(vectors, SPACE, refs(rows))
    note = "made in memory"
    return Snapshot(vectors, files.table, SPACE, 1, SPACE.layers, SPACE.pools, "snapshot", note)


def probe_once(rows: int, model: str) -> dict[str, Any]:
    """Probe once in this process; give the record's seconds, and the largest resident memory in MB."""
    stored = make_snapshot(rows)
    before = _peak_mb()
    with tempfile.TemporaryDirectory() as name:
        people, runs = write_people(Path(name), rows), Path(name) / "runs"
        options = parse_words(ProbeOptions, model=model, store="memory", participants=people, runs=runs)
        done = probe(options, read=lambda *_: stored, tell=lambda _: None)
    seconds = done.record.made.seconds
    return {"model": model, "rows": rows, "seconds": seconds, "peak_mb": round(_peak_mb()), "made_mb": round(before)}


def _peak_mb() -> float:
    return resident_mb("VmHWM")  # of this process alone: ru_maxrss would begin with its parent's


def draw(found: list[dict[str, Any]]) -> str:
    """Draw a line a stage, a column a number of rows, and how the time of a row grows."""
    stages = sorted({name for one in found for name in one["seconds"]}, key=lambda name: name == "wall")
    lines = [["stage", *(f"{one['model']}, {one['rows']:,} rows" for one in found), "time a row, last to first"]]
    lines.append(["---", *["---:"] * (len(found) + 1)])
    for name in stages:
        taken = [one["seconds"].get(name, 0.0) for one in found]
        per_row = [spent / one["rows"] for spent, one in zip(taken, found, strict=True)]
        ratio = f"{per_row[-1] / per_row[0]:.2f}x" if per_row[0] and len(found) > 1 else ""
        lines.append([name, *(f"{spent:.1f} s" for spent in taken), ratio])
    lines.append(["peak memory", *(f"{one['peak_mb']:,} MB" for one in found), ""])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="25000,250000", help="How many rows, with commas between.")
    parser.add_argument("--model", default="linear")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(probe_once(int(options.rows), options.model)))
        return
    found = []
    for rows in options.rows.split(","):
        line = [sys.executable, __file__, "--one", "--rows", rows, "--model", options.model]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode:
            raise RuntimeError(f"{rows} rows: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout))
        sys.stderr.write(f"{found[-1]}\n")
    sys.stdout.write(draw(found) + "\n")


if __name__ == "__main__":
    main()
