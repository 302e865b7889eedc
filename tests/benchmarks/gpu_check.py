"""The first minutes on a GPU: is it right, how fast is it, and what does the host leave idle? Tiny on a CPU.

    python tests/benchmarks/gpu_check.py [--tiny] [--only parity,train,...] [--stand-ins] [--out FILE.json]

Writes results/gpu-<name>.json beside the benchmarks, where the table of docs stays apart. Each check is alone: one that
fails is a row that says why, and the exit code is 1. --stand-ins: for a machine that lacks packages of this project
which no check here needs (pydicom, obstore ...). At full size on an H200 some six minutes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"

Facts = dict[str, Any]


@dataclass
class Check:
    """Sizes and device of a run, with a row for everything that was found."""

    cuda: bool
    rows: list[Facts] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.cuda else "cpu")

    def note(self, check: str, **facts: Any) -> None:
        self.rows.append({"check": check, **facts})
        words = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
        )
        print(f"[{time.perf_counter() - self.begun:6.1f} s] {check}: {words}", flush=True)

    def seconds(self, work: Callable[[], Any], times: int = 4, warm: int = 1) -> float:
        """Give the median seconds of a call, the device waited for."""
        found = []
        for _ in range(warm + times if self.cuda else 2):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - start)
        kept = sorted(found[warm:])
        return kept[len(kept) // 2]

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def peak_gb(self) -> float:
        """Give the most memory held since the last time this was asked."""
        if not self.cuda:
            return 0.0
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return peak


def describe_machine(cuda: bool) -> Facts:
    """Name the device and the versions, never the host."""
    name = torch.cuda.get_device_name() if cuda else f"CPU, {os.cpu_count()} cores"
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    return {"device": name, "versions": versions, "date": datetime.now(UTC).date().isoformat()}


def run_checks(cuda: bool, only: Sequence[str] = ()) -> list[Facts]:
    """Run the checks in their order; a failure becomes a row with "failed"."""
    from gpu_checks import CHECKS

    if unknown := sorted(set(only) - set(CHECKS)):
        raise SystemExit(f"--only: unknown {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    check = Check(cuda)
    for name in only or CHECKS:
        start = time.perf_counter()
        try:
            CHECKS[name](check)
        except (RuntimeError, ValueError, AssertionError, ImportError) as error:
            check.note(name, failed=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        check.note(name, seconds=round(time.perf_counter() - start, 2))
    return check.rows


def main(words: Sequence[str] | None = None) -> int:
    """Run, write the table, and say whether all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=(), help="checks by name")
    parser.add_argument("--stand-ins", action="store_true", help="stand in for packages that are missing")
    parser.add_argument("--out", type=Path, help="the file to write; default: results/gpu-<name>.json")
    asked = parser.parse_args(words)
    if not asked.tiny and not torch.cuda.is_available():
        parser.error("no GPU here; --tiny tries the checks on a CPU")
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    if asked.stand_ins:
        from stand_ins import install

        install()
    machine = describe_machine(not asked.tiny)
    rows = run_checks(not asked.tiny, asked.only)
    named = "".join(letter if letter.isalnum() else "-" for letter in machine["device"].lower())
    out = asked.out or RESULTS / f"gpu-{named}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"tiny": asked.tiny, **machine, "rows": rows}, indent=1) + "\n")
    print(f"wrote {out}")
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
