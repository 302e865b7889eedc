"""P9: CPU seconds from a typed command to its help, user and system together, beside an empty Python."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from comparison import Goal, Row, not_measured
from settings import Settings

COMMANDS = ("extract-embeddings", "classify", "reports", "oct-phantom")
GOAL = Goal(ours=0.3)


def measure(settings: Settings) -> list[Row]:
    rounds = 1 if settings.quick else 7
    scripts = Path(sys.executable).parent
    present = [name for name in COMMANDS if (scripts / name).exists()]
    commands = {name: [str(scripts / name), "--help"] for name in present}
    commands |= {"python": [sys.executable, "-c", "pass"]}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            spent[name].append(cpu_seconds(command))
    settled = {name: median(seconds[1:]) for name, seconds in spent.items()}
    rows = []
    for name in COMMANDS:
        work, peer = f"{name} --help", "python -c pass"
        if name in settled:
            figures = {"ours": settled[name], "peer_value": settled["python"]}
            rows += [Row(id="P9", work=work, peer=peer, unit="CPU s", goal=GOAL, rounds=rounds, **figures)]
        else:
            rows += [not_measured("the command is not installed", id="P9", work=work, peer=peer, unit="CPU s")]
    return rows


def cpu_seconds(command: list[str]) -> float:
    """Run a command to its end and give the CPU time of the process and its children. Raises where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: exit code {process.returncode}\n{errors.decode()}"
    return usage.ru_utime + usage.ru_stime
