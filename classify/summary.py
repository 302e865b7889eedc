"""A short table of a run for people: participant level, intervals, baselines, and the difference that matters."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from classify.judging.bootstrap import Measured, caution_few
from classify.judging.metrics import HEADLINE
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
    return _table(record.to_dict(), "val")


def print_evaluation(record: Mapping[str, Any], looks: int) -> None:
    """Print the same table of the test split, and how often the split has been looked at."""
    console = Console(stderr=True)
    console.print(_table(record, "test"))
    for line in evaluation_lines(record, looks):
        console.print(line, highlight=False)


def evaluation_lines(record: Mapping[str, Any], looks: int) -> list[str]:
    """Give the closing lines of an evaluation; a second look is allowed, and said."""
    difference = record["evaluations"][-1]["difference_to_age_site"]
    lines = [f"{metric}: difference to age+site {format_measured(difference[metric])}" for metric in HEADLINE]
    lines += [*contrast_lines(record["contrasts"]["test"]), p_value_line(record["permutation"]["test"])]
    if caution := caution_few(record["splits"]["test"]["per_class"], "test"):
        lines.append(caution)
    said = "" if looks == 1 else "; it is no longer untouched: say so with every number"
    lines.append(f"the test split of this cohort has been looked at {looks} time{'s' if looks > 1 else ''}{said}")
    return [*lines, *([PHANTOM] if record["phantom"] else []), RESEARCH_ONLY]


def _table(record: Mapping[str, Any], split: str) -> Table:
    count = record["splits"][split]["participants"]
    table = Table(title=f"{record['model']}, {record['task']}: {count} participants of {split}, 95 % intervals")
    for name in ("", *SHOWN):
        table.add_column(name.replace("_", " "))
    models = {record["model"]: record["metrics"]["participant"]} | record["baselines"]
    judged = {name: measured for name, measured in models.items() if split in measured}
    for name, measured in judged.items():
        table.add_row(name, *(format_measured(measured[split][metric]) for metric in SHOWN))
    return table


def headline(record: RunRecord) -> list[str]:
    """Give the closing lines: the difference to age+site, what the test set saw, and what this is not."""
    lines = [
        f"{metric}: difference to age+site {format_measured(record.difference_to_age_site[metric])}"
        for metric in HEADLINE
    ]
    lines += [
        f"{metric}: added to age+site by the embedding {format_measured(measured)}"
        for metric, measured in record.added_to_age_site.items()
    ]
    lines += [*contrast_lines(record.contrasts["val"]), p_value_line(record.permutation["val"])]
    if caution := caution_few(record.splits["val"]["per_class"]):
        lines.append(caution)
    lines += robustness_lines(record.robustness or {})
    locked = record.splits["test"]["participants"]
    lines.append(f"test: {locked} participants locked, neither fitted on nor predicted")
    return [*lines, *([PHANTOM] if record.phantom else []), RESEARCH_ONLY]


def contrast_lines(contrasts: Mapping[str, Mapping[str, Measured]]) -> list[str]:
    """Give the AUROC of each two-sided question."""
    return [f"{name}: AUROC {format_measured(measured['auroc'])}" for name, measured in contrasts.items()]


def robustness_lines(robustness: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Give, for each site and device that was left out of training, the macro AUROC there and what it lost."""
    lines = []
    for by, left_out in robustness.items():
        for line in left_out:
            said = line.get("absent") or (
                f"macro AUROC {format_measured(line['without']['macro_auroc'])}, "
                f"difference to trained with it {format_measured(line['difference']['macro_auroc'])}"
            )
            lines.append(f"without {by} {line['held_out']} ({line['participants']} participants there): {said}")
    return lines


def p_value_line(permutation: Mapping[str, Any]) -> str:
    """Give the p-values of the dealt labels, which know nothing of age and site."""
    said = [
        f"{metric} {p['value']:.4f}" if "value" in p else f"{metric} absent: {p['absent']}"
        for metric, p in permutation["p_values"].items()
    ]
    return f"p, labels dealt anew to participants {permutation['permutations']} times: {'; '.join(said)}"


def format_measured(measured: Measured | dict[str, Any]) -> str:
    """Write "0.71 (0.64 to 0.78)", or why there is no number."""
    if "absent" in measured:
        return f"absent: {measured['absent']}"
    return f"{measured['value']:.2f} ({measured['low']:.2f} to {measured['high']:.2f})"
