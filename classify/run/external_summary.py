"""What ``classify evaluate --external`` prints for people, on stderr."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from classify.judging.metrics import HEADLINE
from classify.run.estimate import Estimate
from classify.run.ledger import COUNTED_HERE
from classify.run.record import RunRecord
from classify.run.summary import (
    PHANTOM,
    RESEARCH_ONLY,
    encoder_lines,
    format_measured,
    missing_lines,
    p_value_line,
    rival_lines,
    step_line,
)

OF_ORDER = ("quadratic_weighted_kappa", "ordinal_error")
"""Measures that say something where classes have an order."""

FAR = 0.05
"""Share of a device's scans beyond the 99th percentile of train, which would be 0.01 of scans like it."""


def print_external(record: RunRecord, looks: int) -> None:
    """Print the last look of a run at people of another place."""
    console = Console(stderr=True)
    console.print(external_table(record))
    for line in external_lines(record, looks):
        console.print(line, highlight=False)


def external_table(record: RunRecord) -> Table:
    """Lay out what the run reaches there, and what it lost on the way."""
    entry = record.looks_outside[-1]
    judged, transport = entry["judged"], entry["transport"]
    level = next(reversed(judged["metrics"]))
    measured, people = judged["metrics"][level][entry["split"]], entry["sizes"]["participants"]
    table = Table(title=f"{record.fitted.model}, {record.asked.task}: {people} participants of another place")
    home = "home" if isinstance(transport, Estimate) else transport["home"]
    for name in ("", "there", f"minus {home} of the run"):
        table.add_column(name)
    for name in shown_measures(record, measured):
        gap = transport if isinstance(transport, Estimate) else transport["gap"][name]
        table.add_row(name.replace("_", " "), format_measured(measured[name]), format_measured(gap))
    return table


def shown_measures(record: RunRecord, measured: Iterable[str]) -> list[str]:
    """Name the measures of all classes together that say something of the run's kind of task."""
    ordered = record.asked.task_definition.get("kind", "ordered") == "ordered"
    return [name for name in measured if "/" not in name and (ordered or name not in OF_ORDER)]


def external_lines(record: RunRecord, looks: int) -> list[str]:
    """Say who was judged, next to what, how the probabilities did, and how new the scans are."""
    entry = record.looks_outside[-1]
    judged, split, place = entry["judged"], entry["split"], entry["place"]
    lines = [step_line(step) for step in place["flow"] if step["kind"] != "total"]
    if absent := entry["absent_classes"]:
        lines.append(f"nobody there is {', '.join(absent)}: what needs these classes is absent")
    lines += [f"{name}: {metric} {format_measured(table[split][metric])}" for name, table in judged["baselines"].items()
              if name != "dummy" for metric in HEADLINE if metric in table[split]]  # fmt: skip
    lines += [*rival_lines(judged["difference_to_baselines"]), *missing_lines(entry["baselines_missing"])]
    lines += [p_value_line(judged["permutation"][split]), *recalibration_lines(entry["recalibration"])]
    lines += [novelty_line(line) for line in entry["novelty"]]
    said = "" if looks == 1 else "; they are no longer untouched: say so with every number"
    lines.append(f"these people have been looked at {looks} time{'s' if looks > 1 else ''}{said}; {COUNTED_HERE}")
    lines += encoder_lines(record.asked.encoder_source)
    return [*lines, *([PHANTOM] if record.asked.phantom or place["phantom"] else []), RESEARCH_ONLY]


def recalibration_lines(found: Mapping[str, Any]) -> list[str]:
    """Say what recalibrating on so many people gives for the others."""
    if "absent" in found:
        return [f"recalibration: absent: {found['absent']}; everybody is judged"]
    count = found["participants"]
    lines = [f"recalibrated ({found['method']}) on {count} participants of the place, who are not judged"]
    if found["why_constant"]:
        lines.append(f"recalibration: {found['why_constant']}: everybody is shown the class shares of these {count}")
    return lines + [
        f"{name.replace('_', ' ')}: before {format_measured(found['before'][name])}, after "
        f"{format_measured(found['after'][name])}, difference {format_measured(found['difference'][name])}"
        for name in found["before"]
    ]


def novelty_line(line: Mapping[str, Any]) -> str:
    """Say how far the scans of a device lie from those of train."""
    new = "" if line["in_training"] else "; TRAINING HELD NONE OF THIS DEVICE: classify predict does not answer there"
    if line["in_training"] and line["new_protocols"]:
        new = f"; protocols that training did not hold: {', '.join(line['new_protocols'])}"
    far = ", far more than the 1 % of scans like those of train" if line["beyond"] > FAR else ""
    return (
        f"{line['device']}: {line['volumes']} volumes of {line['participants']} participants, {line['beyond']:.0%} "
        f"farther than 99 % of train{far}{new}"
    )
