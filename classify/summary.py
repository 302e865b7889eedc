"""A short table of a run for people: participant level, intervals, baselines, and the difference that matters."""

from typing import Any

from rich.console import Console
from rich.table import Table

from classify.bootstrap import Measured, caution_few
from classify.metrics import HEADLINE
from classify.run import RunRecord

SHOWN = ("balanced_accuracy", "macro_auroc", "quadratic_weighted_kappa")
RESEARCH_ONLY = "Research use only, not for clinical decisions."
PHANTOM = "SYNTHETIC PHANTOM: these numbers say nothing about people."


def print_summary(record: RunRecord) -> None:
    """Print the table and the closing lines on stderr."""
    console = Console(stderr=True)
    console.print(metric_table(record))
    for line in headline(record):
        console.print(line, highlight=False)


def metric_table(record: RunRecord) -> Table:
    """Lay out the model and the baselines, one line each, at participant level on val."""
    count = record.splits["val"]["participants"]
    table = Table(title=f"{record.model}, {record.task}: {count} participants of val, 95 % intervals")
    for name in ("", *SHOWN):
        table.add_column(name.replace("_", " "))
    models = {record.model: record.metrics["participant"]} | record.baselines
    for name, measured in models.items():
        table.add_row(name, *(format_measured(measured["val"][metric]) for metric in SHOWN))
    return table


def headline(record: RunRecord) -> list[str]:
    """Give the closing lines: the difference to age+site, what the test set saw, and what this is not."""
    lines = [
        f"{metric}: difference to age+site {format_measured(record.difference_to_age_site[metric])}"
        for metric in HEADLINE
    ]
    if caution := caution_few(record.splits["val"]["per_class"]):
        lines.append(caution)
    locked = record.splits["test"]["participants"]
    lines.append(f"test: {locked} participants locked, neither fitted on nor predicted")
    return [*lines, *([PHANTOM] if record.phantom else []), RESEARCH_ONLY]


def format_measured(measured: Measured | dict[str, Any]) -> str:
    """Write "0.71 (0.64 to 0.78)", or why there is no number."""
    if "absent" in measured:
        return f"absent: {measured['absent']}"
    return f"{measured['value']:.2f} ({measured['low']:.2f} to {measured['high']:.2f})"
