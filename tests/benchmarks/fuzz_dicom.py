"""Read thousands of damaged DICOM files, and count how they end; anything but a Volume or a named refusal is a find.

Not part of the test suite. Workers run under a limit of address space (2 GB above what they start with) and of time
a file (10 s); a worker that dies is a find, and the next one goes on behind the file that killed it.

    export PYTHONPATH=tests:tests/extract
    python tests/benchmarks/fuzz_dicom.py --count 20000 --seed 0
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from typing import Any

FILE_LIMIT_S = 10
ALLOCATION_LIMIT_BYTES = 2 << 30
REFERENCE = Path(__file__).parents[3] / "shared/fixtures/preprocess/dicom"


@dataclass
class Tally:
    """What came of the files. finds: number, recipe and exception (or signal) of each that no class names."""

    classes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int, str] = (0.0, -1, "")
    peak_bytes: int = 0
    largest_growth: tuple[int, int, str] = (0, -1, "")
    finds: list[str] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        number, recipe = line["number"], line["recipe"]
        self.classes[line["outcome"]] += 1
        self.slowest = max(self.slowest, (line["seconds"], number, recipe))
        self.peak_bytes = max(self.peak_bytes, line["peak_bytes"])
        self.largest_growth = max(self.largest_growth, (line["grown_bytes"], number, recipe))
        if line["find"]:
            self.finds.append(f"{number} ({recipe}): {line['find']}")


def work(numbers: range, seed: int) -> None:
    """Read the files of these numbers, and print a line before and after each."""
    from dicom_fuzz import make_case
    from dicom_seeds import all_seeds

    warnings.simplefilter("error")
    seeds = all_seeds(REFERENCE)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOCATION_LIMIT_BYTES,) * 2)
    for number in numbers:
        recipe, data = make_case(seeds, seed, number)
        print(json.dumps({"number": number, "recipe": recipe}), flush=True)
        print(json.dumps({"number": number, "recipe": recipe, **_measure(data, number)}), flush=True)


def _measure(data: bytes, number: int) -> dict[str, Any]:
    from dicom_fuzz import read_case

    before, start, find = _peak_bytes(), time.perf_counter(), ""
    signal.setitimer(signal.ITIMER_REAL, FILE_LIMIT_S)  # no handler: SIGALRM ends a hang in C code too
    try:
        outcome = read_case(data, number)
    except Exception as error:  # noqa: BLE001 - what is looked for
        place = extract_tb(error.__traceback__)[-1]
        outcome = f"UNCLASSED {type(error).__name__}"
        find = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:120]}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    peak = _peak_bytes()
    seconds = time.perf_counter() - start
    return {"outcome": outcome, "find": find, "seconds": seconds, "peak_bytes": peak, "grown_bytes": peak - before}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def drive(numbers: range, seed: int, tally: Tally) -> None:
    """Keep one worker alive until all numbers are read."""
    while numbers:
        command = [sys.executable, __file__, "--seed", str(seed), "--worker", f"{numbers.start}:{numbers.stop}"]
        pending: dict[str, Any] = {}
        with subprocess.Popen(
            [*command, "--step", str(numbers.step)], stdout=subprocess.PIPE, text=True, env=_one_thread()
        ) as worker:
            assert worker.stdout is not None
            for text in worker.stdout:
                line = json.loads(text)
                if "outcome" in line:
                    tally.add(line)
                    pending = {}
                else:
                    pending = line
        if worker.returncode == 0:
            return
        if not pending:
            raise SystemExit(f"a worker ended with {worker.returncode} outside any file")
        tally.classes["DIED"] += 1
        tally.finds.append(f"{pending['number']} ({pending['recipe']}): died, status {worker.returncode}")
        numbers = range(pending["number"] + numbers.step, numbers.stop, numbers.step)


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        first, stop = map(int, options.worker.split(":"))
        return work(range(first, stop, options.step), options.seed)
    tallies = [Tally() for _ in range(options.workers)]
    start = time.perf_counter()
    with ThreadPoolExecutor(options.workers) as pool:
        shares = [range(first, options.count, options.workers) for first in range(options.workers)]
        list(pool.map(drive, shares, [options.seed] * options.workers, tallies))
    report(tallies, time.perf_counter() - start)
    return None


def report(tallies: list[Tally], seconds: float) -> None:
    """Print the counts, the slowest file, the memory, and every find."""
    classes = sum((tally.classes for tally in tallies), Counter[str]())
    for name, count in classes.most_common():
        print(f"{count:8,}  {name}")
    elapsed, number, recipe = max(tally.slowest for tally in tallies)
    print(f"{classes.total():,} files in {seconds:.0f} s; slowest {elapsed:.2f} s: {number} ({recipe})")
    grown, number, recipe = max(tally.largest_growth for tally in tallies)
    peak = max(tally.peak_bytes for tally in tallies)
    print(f"peak memory {peak / 2**20:,.0f} MiB; largest growth {grown / 2**20:,.0f} MiB: {number} ({recipe})")
    print(f"limits: RLIMIT_AS {ALLOCATION_LIMIT_BYTES / 2**20:,.0f} MiB above the start, {FILE_LIMIT_S} s a file")
    finds = [find for tally in tallies for find in tally.finds]
    print(f"{len(finds)} finds", *finds, sep="\n  ")
    if finds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
