"""The peak memory of one piece of work, in a process of its own (Linux: VmHWM).

Run as a script with the name of a bench module, of one of its MEMORY cases, and the case's arguments as JSON.
"""

import importlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # Linux, Documentation/filesystems/proc.rst: clear_refs


@dataclass(frozen=True, slots=True)
class Peak:
    """Resident memory in MB (10^6 bytes): before the work, with its inputs in place, and at its highest."""

    before_mb: float
    highest_mb: float

    @property
    def above_mb(self) -> float:
        """What the work itself took."""
        return self.highest_mb - self.before_mb


def measure_peak(module: str, case: str, **arguments: Any) -> Peak:
    """Prepare and run one MEMORY case of a bench module in a fresh process with this one's environment."""
    command = [sys.executable, __file__, module, case, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {case}: the memory run failed\n{done.stderr}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def is_measurable() -> bool:
    """Tell whether this system has VmHWM; others get a row that says "not measured"."""
    return STATUS.exists()


def resident_mb(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{STATUS}: expected a line {field}")
    return int(found[1]) * 1024 / 1e6


def _main(module: str, case: str, arguments: str) -> None:
    work = importlib.import_module(module).MEMORY[case](**json.loads(arguments))
    CLEAR_REFS.write_text(RESET_PEAK)
    before = resident_mb("VmRSS")
    work()
    print(json.dumps({"before_mb": before, "highest_mb": resident_mb("VmHWM")}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
