"""What the commands across models print for people, on stderr: leaderboards, curves, and what a prediction says."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from classify.cohort.splits import NO_TEST, OUT_OF_FOLD
from classify.comparing.leaderboard import at_once, count_worse, standing
from classify.judging.bootstrap import caution_few
from classify.judging.metrics import HEADLINE
from classify.run.summary import PHANTOM, RESEARCH_ONLY, encoder_lines, format_measured

NOT_MEASURED = "–"


FEW_CONFIDENT = 0.1
"""Of validation participants: fewer reach the confidence asked for, and the terminal says so."""


def print_comparison(record: Mapping[str, Any]) -> None:
    """Print a leaderboard for each task, and what has to be said with it."""
    console = Console(stderr=True)
    for task, board in record["tasks"].items():
        console.print(leaderboard_table(task, board))
        for line in leaderboard_lines(board):
            console.print(line, highlight=False)
    for cell in record["absent"]:
        console.print(f"{cell['name']}, {cell['task']}: absent: {cell['reason']}", highlight=False)
    for line in closing_lines(record):
        console.print(line, highlight=False)


def leaderboard_table(task: str, board: Mapping[str, Any]) -> Table:
    """Lay out the lines of one task, best first."""
    table = Table(title=f"{task}: {board['participants']} participants of val, the same for every line")
    has_twin = any(line["difference_to_random_twin"] for line in board["lines"])
    names = [
        "",
        *(name.replace("_", " ") for name in HEADLINE),
        f"minus best, {board['ranked_by'].replace('_', ' ')}",
        "",
    ]
    names += ["to random twin"] if has_twin else []
    for name in (*names, "seconds"):
        table.add_column(name)
    for line in board["lines"]:
        cells = [line["name"], *(format_measured(line["metrics"][name]) for name in HEADLINE)]
        best = (line["difference_to_best"] or {}).get(board["ranked_by"])
        cells += [format_measured(at_once(best)) if best else NOT_MEASURED, standing(line, board)]
        cells += [_difference(line, "difference_to_random_twin", board)] if has_twin else []
        seconds = NOT_MEASURED if line["seconds"] is None else f"{line['seconds']:.1f}"
        table.add_row(*cells, seconds, style="dim" if line["kind"] != "model" else None)
    return table


def leaderboard_lines(board: Mapping[str, Any]) -> list[str]:
    """Say what being first of so many is worth, and on whom everybody was judged."""
    chosen = board["best_of_n"]
    count, metric = chosen["compared"], board["ranked_by"]
    lines = []
    if count > 1 and chosen["corrected"]:
        corrected = format_measured(chosen["corrected"][metric])
        lines.append(
            f"{count} models were compared, and the first of {count} looks better than it is: chosen anew in every "
            f"bootstrap replicate and judged on the people not drawn, it has {metric.replace('_', ' ')} {corrected}"
        )
        lines.append(count_worse(board))
    lines += [f"{line['name']}: {line['note']}" for line in board["lines"] if line["note"]]
    lines += [f"not made for {name}: {said}" for name, said in board.get("baselines_missing", {}).items()]
    lines += [*board.get("unlike_train", []), *board.get("paired_by_number", [])]
    if len(board["cohorts"]) > 1:
        sizes = "; ".join(f"{', '.join(one['names'])}: {one['val']['participants']}" for one in board["cohorts"])
        lines.append(
            f"the cohorts differ; only the {board['participants']} participants of {board['split']} in all are used "
            f"({sizes})"
        )
    if caution := caution_few(board["per_class"], board["split"]):
        lines.append(caution)
    return lines


def closing_lines(record: Mapping[str, Any]) -> list[str]:
    """Say that test was left alone, and what this is not."""
    crossed = any(board["split"] == OUT_OF_FOLD for board in record["tasks"].values())
    lines = [
        NO_TEST if crossed else "test: never read; judge the one that you choose by classify evaluate --split test"
    ]
    for store, source in record["encoders"].items():
        lines += encoder_lines(source, f" of {store}")
    return [*lines, *([PHANTOM] if record["phantom"] else []), RESEARCH_ONLY]


def print_curve(record: Mapping[str, Any]) -> None:
    """Print the points of a learning curve, and how to read them."""
    console = Console(stderr=True)
    console.print(curve_table(record))
    for line in (*record["said"], *([PHANTOM] if record["phantom"] else []), RESEARCH_ONLY):
        console.print(line, highlight=False)


def curve_table(record: Mapping[str, Any]) -> Table:
    """Lay out the points, smallest first."""
    title = (
        f"{record['model']}, {record['task']}: {record['val']['participants']} participants of val judge every point"
    )
    table = Table(title=title)
    for name in (
        "train",
        "participants",
        *(name.replace("_", " ") for name in HEADLINE),
        "macro auroc to all of train",
    ):
        table.add_column(name)
    for point in record["points"]:
        share = f"{100 * point['fraction']:g} %"
        if "absent" in point:
            table.add_row(share, str(point["participants"]), f"absent: {point['absent']}")
            continue
        apart = (point.get("difference_to_all") or {}).get("macro_auroc")
        table.add_row(
            share,
            str(point["participants"]),
            *(format_measured(point[name]) + _spread(point[name]) for name in HEADLINE),
            format_measured(apart) if apart else NOT_MEASURED,
        )
    return table


def print_prediction(summary: Mapping[str, Any]) -> None:
    """Print what was predicted, and for how many the run abstains."""
    console = Console(stderr=True)
    for line in prediction_lines(summary):
        console.print(line, highlight=False)


def prediction_lines(summary: Mapping[str, Any]) -> list[str]:
    """Say how many lines there are, where the run abstains, and what was noticed."""
    strange = summary["out_of_distribution"]
    lines = [
        f"{level}: {counts['lines']} lines, {counts['abstained']} abstained, "
        f"{counts['out_of_distribution']} out of distribution"
        for level, counts in summary["levels"].items()
    ]
    lines.append(
        f"out of distribution: farther than {strange['percentile']:g} % of {strange['training_volumes']} volumes of "
        f"train, which are distances over {strange['distance']:.1f}"
    )
    lines += [f"not predicted: {count} volumes, {reason}" for reason, count in summary["withheld"].items()]
    lines += [f"flag: {count} volumes, {flag}" for flag, count in summary["flags"].items()]
    if known := {name: count for name, count in summary["known_to_the_run"].items() if name != "new"}:
        told = ", ".join(f"{count} volumes of its {split}" for split, count in known.items())
        lines.append(f"the run knows some of these people: {told}; what it says of train is no prediction")
    lines += _probability_lines(summary)
    lines.append(f"written: {summary['path']}")
    lines += encoder_lines(summary["encoder_source"])
    return [*lines, *([PHANTOM] if summary["phantom"] else []), RESEARCH_ONLY]


def _probability_lines(summary: Mapping[str, Any]) -> list[str]:
    """Say what the probabilities are, and where hardly anybody can reach the confidence that is asked for."""
    lines = [f"probabilities: {summary['probabilities']}"]
    if stated := summary["prevalence"]:
        lines[0] += f"; at the prevalence {', '.join(f'{name} {share:.3f}' for name, share in stated.items())}"
    reached = summary["confident_on_val"]
    if reached is not None and reached < FEW_CONFIDENT:
        lines.append(
            f"--abstain-below {summary['abstain_below']:g} can hardly be met: {reached:.0%} of this run's validation "
            f"participants reach it; the likeliest class of {len(summary['classes'])} is rarely that likely"
        )
    return lines


def _difference(line: Mapping[str, Any], name: str, board: Mapping[str, Any]) -> str:
    measured = (line[name] or {}).get(board["ranked_by"])
    return format_measured(measured) if measured else NOT_MEASURED


def _spread(measured: Mapping[str, Any]) -> str:
    spread = measured.get("spread")
    return f", repeats {spread['low']:.2f} to {spread['high']:.2f}" if spread else ""
