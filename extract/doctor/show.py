"""The examination as a person reads it: a table of answers, the figures, and a verdict in the last line."""

import json
from collections.abc import Mapping
from typing import Any

from embeddings_store.terminal.console import result_console
from extract.doctor.report import Report, Status

COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
HIDDEN = frozenset({"versions", "decoders", "architecture"})
"""Long figures that only --json shows."""


def print_report(report: Report) -> None:
    """Print it; the words ok, warn and fail say it without colour."""
    from rich.table import Table
    from rich.text import Text

    console = result_console()
    answers = Table(box=None, show_header=False, pad_edge=False)
    for check in report.checks:
        status = Text(check.status.value, style=COLOURS[check.status])
        answers.add_row(status, Text(check.name), Text(check.message, overflow="fold"))
    figures = Table(box=None, show_header=False, pad_edge=False)
    for name, value in report.figures.items():
        if name not in HIDDEN:
            figures.add_row(Text(name), Text(write_figure(value), overflow="fold"))
    for name, reason in report.absent.items():
        figures.add_row(Text(name), Text(f"absent: {reason}", overflow="fold"))
    console.print(answers, Text(), figures, Text(), Text(verdict(report), style=COLOURS[report.status]), sep="\n")


def verdict(report: Report) -> str:
    """Put everything into one line."""
    failed, warned = report.named(Status.FAIL), report.named(Status.WARN)
    parts = [f"{len(failed)} failed ({', '.join(failed)})"] if failed else []
    parts += [f"{len(warned)} to look at ({', '.join(warned)})"] if warned else []
    rest = len(report.checks) - len(failed) - len(warned)
    return f"verdict: {report.status.value}; {', '.join([*parts, f'{rest} of {len(report.checks)} checks are fine'])}"


def write_figure(value: Any) -> str:
    """Write a figure shortly: six digits, and mappings as name value."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {write_figure(part)}" for name, part in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
