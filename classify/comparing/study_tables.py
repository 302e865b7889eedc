"""What the commands across models print for people: leaderboards, curves, and what a prediction says."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from classify.cohort.splits import NO_TEST, OUT_OF_FOLD
from classify.comparing.board import ComparisonRecord, TaskBoard
from classify.comparing.leaderboard import count_worse, standing
from classify.comparing.target_folder import TargetsRecord
from classify.judging.bootstrap import caution_few
from classify.judging.kinds import measures_of
from classify.learning_curve import CurveRecord
from classify.run.estimate import TOO_FEW, Estimate
from classify.run.summary import PHANTOM, RESEARCH_ONLY, encoder_lines, format_measured
from embeddings_store.encoding_cost import ABSENT, cost_of_record
from embeddings_store.terminal.console import show, show_table

NOT_MEASURED = "–"

FEW_CONFIDENT = 0.1
"""Of validation participants: fewer reach the confidence asked for, and the terminal says so."""


def print_comparison(record: ComparisonRecord) -> None:
    """Print a leaderboard for each task, and what has to be said with it."""
    for task, board in record.tasks.items():
        show_table(leaderboard_table(task, board))
        for line in leaderboard_lines(board):
            show(line)
    for cell in record.absent:
        show(f"{cell.name}, {cell.task}: absent: {cell.reason}")
    for line in closing_lines(record):
        show(line)


def leaderboard_table(task: str, board: TaskBoard) -> Table:
    """Lay out the lines of one task, best first."""
    table = Table(title=f"{task}: {board.participants} participants of val, the same for every line")
    has_twin = any(line.difference_to_random_twin for line in board.lines)
    headline = measures_of(board.classes).headline
    names = [
        "",
        *(name.replace("_", " ") for name in headline),
        f"minus best, {board.ranked_by.replace('_', ' ')}",
        "",
    ]
    names += ["to random twin"] if has_twin else []
    for name in (*names, "seconds"):
        table.add_column(name)
    for line in board.lines:
        cells = [line.name, *(format_measured(line.metrics[name], name) for name in headline)]
        best = (line.difference_to_best or {}).get(board.ranked_by)
        cells += [format_measured(best.at_once()) if best else NOT_MEASURED, standing(line, board)]
        twin = (line.difference_to_random_twin or {}).get(board.ranked_by)
        cells += [format_measured(twin) if twin else NOT_MEASURED] if has_twin else []
        seconds = NOT_MEASURED if line.seconds is None else f"{line.seconds:.1f}"
        table.add_row(*cells, seconds, style="dim" if line.kind != "model" else None)
    return table


def leaderboard_lines(board: TaskBoard) -> list[str]:
    """Say what being first of so many is worth, and on whom everybody was judged."""
    count, metric = board.best_of_n.compared, board.ranked_by
    lines = []
    if count > 1 and board.best_of_n.corrected:
        corrected = format_measured(board.best_of_n.corrected[metric])
        lines.append(
            f"{count} models were compared, and the first of {count} looks better than it is: chosen anew in every "
            f"bootstrap replicate and judged on the people not drawn, it has {metric.replace('_', ' ')} {corrected}"
        )
        lines.append(count_worse(board))
    lines += [f"{line.name}: {line.note}" for line in board.lines if line.note]
    lines += [f"not made for {name}: {said}" for name, said in board.baselines_missing.items()]
    lines += [*board.unlike_train, *board.paired_by_number]
    if len(board.cohorts) > 1:
        sizes = "; ".join(f"{', '.join(one.names)}: {one.val['participants']}" for one in board.cohorts)
        lines.append(
            f"the cohorts differ; only the {board.participants} participants of {board.split} in all are used ({sizes})"
        )
    if caution := caution_few(vars(board), board.split):
        lines.append(caution)
    return lines


def closing_lines(record: ComparisonRecord) -> list[str]:
    """Say that test was left alone, and what this is not."""
    crossed = any(board.split == OUT_OF_FOLD for board in record.tasks.values())
    lines = [
        NO_TEST if crossed else "test: never read; judge the one that you choose by classify evaluate --split test"
    ]
    for store, source in record.encoders.items():
        cost = cost_of_record(record.encoding_costs.get(store))
        lines += [*encoder_lines(source, f" of {store}"), f"cost of {store}: {cost.describe() if cost else ABSENT}"]
    return [*lines, *([PHANTOM] if record.phantom else []), RESEARCH_ONLY]


def print_targets(record: TargetsRecord) -> None:
    """Print one table of several targets, and what has to be said with it."""
    show_table(targets_table(record))
    for line in target_lines(record):
        show(line)


def targets_table(record: TargetsRecord) -> Table:
    """Lay out the targets as they were asked for, a line a measure; those that are absent last."""
    table = Table(title=f"{record.model}, {len(record.targets) + len(record.absent)} targets, on val")
    for column in ("target", "participants", "measure", "", "p, chance", "p, baselines"):
        table.add_column(column)
    for line in record.targets:
        for name, measured in line.metrics.items():
            p = [_adjusted(found.get(name)) for found in line.p.values()]
            people = str(line.val.get("participants", ""))
            table.add_row(line.target, people, name.replace("_", " "), format_measured(measured), *p)
    for gap in record.absent:
        table.add_row(gap.target, "absent", *[NOT_MEASURED] * 4, style="dim")
    return table


def target_lines(record: TargetsRecord) -> list[str]:
    """Say how the p-values are adjusted, which baseline is hardest, and which target is absent."""
    lines = ["p: one-sided, adjusted by Holm for the targets that have one; baselines: against the hardest of all"]
    for line in record.targets:
        for metric, rival in line.hardest_baseline.items():
            if rival is not None:
                apart = format_measured(line.difference_to_baselines[rival][metric])
                lines.append(f"{line.target}: {metric}: hardest baseline {rival}, difference {apart}")
    for line in record.targets:
        why = {p.absent for found in line.p.values() for p in found.values() if p.absent}
        lines += [f"{line.target}: a p is absent: {said}" for said in sorted(why)]
        lines.append(f"{line.target}: run {line.run}")
    lines += [f"{gap.target}: absent: {gap.reason}" for gap in record.absent]
    lines += ["test: never read; judge each run by classify evaluate --split test"]
    lines += encoder_lines(record.encoder_source)
    return [*lines, *([PHANTOM] if record.phantom else []), RESEARCH_ONLY]


def _adjusted(p: Estimate | None) -> str:
    if p is None:
        return NOT_MEASURED
    return TOO_FEW if p.holm is None else f"{p.holm:.4f}"


def print_curve(record: CurveRecord) -> None:
    """Print the points of a learning curve, and how to read them."""
    show_table(curve_table(record))
    for line in (*record.said, *([PHANTOM] if record.phantom else []), RESEARCH_ONLY):
        show(line)


def curve_table(record: CurveRecord) -> Table:
    """Lay out the points, smallest first."""
    people = record.val["participants"]
    table = Table(title=f"{record.model}, {record.task}: {people} participants of val judge every point")
    measures = measures_of(record.classes)
    for name in (
        "train",
        "participants",
        *(name.replace("_", " ") for name in measures.headline),
        f"{measures.searched_by.replace('_', ' ')} to all of train",
    ):
        table.add_column(name)
    for point in record.points:
        share = f"{100 * point['fraction']:g} %"
        if "absent" in point:
            table.add_row(share, str(point["participants"]), f"absent: {point['absent']}")
            continue
        apart = (point.get("difference_to_all") or {}).get(measures.searched_by)
        table.add_row(
            share,
            str(point["participants"]),
            *(format_measured(point[name], name) + _spread(point[name]) for name in measures.headline),
            format_measured(apart) if apart else NOT_MEASURED,
        )
    return table


def print_prediction(summary: Mapping[str, Any]) -> None:
    """Print what was predicted, and for how many the run abstains."""
    for line in prediction_lines(summary):
        show(line)


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
    lines = [f"{'probabilities' if summary['classes'] else 'answers'}: {summary['probabilities']}"]
    if not summary["classes"]:
        reach = [f"{level} {half:.4g}" for level, half in summary["interval"]["half_width"].items() if half is not None]
        said = (
            f"low and high lie to each side by: {', '.join(reach)}"
            if reach
            else "train has too few people for low and high"
        )
        return [*lines, f"{summary['interval']['share']:.0%} intervals, from held-out residuals of train: {said}"]
    if stated := summary["prevalence"]:
        lines[0] += f"; at the prevalence {', '.join(f'{name} {share:.3f}' for name, share in stated.items())}"
    reached = summary["confident_on_val"]
    if reached is not None and reached < FEW_CONFIDENT:
        lines.append(
            f"--abstain-below {summary['abstain_below']:g} can hardly be met: {reached:.0%} of this run's validation "
            f"participants reach it; the likeliest class of {len(summary['classes'])} is rarely that likely"
        )
    return lines


def _spread(measured: Estimate) -> str:
    spread = measured.more.get("spread")
    return f", repeats {spread['low']:.2f} to {spread['high']:.2f}" if spread else ""
