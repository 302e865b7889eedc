"""The results part of the study page: which tables and figures stand there, with their captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.run.estimate import Estimate
from reports.curves import count_confusion
from reports.headline import number
from reports.pictures import (
    SPLIT_NAMES,
    Picture,
    picture_agreement,
    picture_confusion,
    picture_forest,
    picture_reliability,
    picture_roc,
)
from reports.runs import FinishedRun, caution_of_run, to_estimate
from reports.tables import UNIT_FIELD, Metric, ResultRow, forest, metrics_of, results, run_name, side_metrics_of

CHANCE_AUROC = 0.5
FEWEST_AWAY = 2  # sites or devices with an interval; one alone says little


@dataclass(frozen=True, slots=True)
class ResultTable:
    """One results table with its words, and the figure below it."""

    heading: str
    caption: str
    rows: Sequence[ResultRow]
    metrics: Sequence[Metric]
    with_difference: bool
    figure: Picture | None = None
    unjudged: Sequence[str] = ()


def result_tables(runs: Sequence[FinishedRun], phantom: bool) -> list[ResultTable]:
    """List the tables: the judged units of each split first, then the finer levels."""
    judged = [split for split in SPLIT_NAMES if any(split in run.splits_judged() for run in runs)]
    return [table for split in judged for table in _split_tables(runs, split, phantom)]


def _split_tables(all_runs: Sequence[FinishedRun], split: str, phantom: bool) -> list[ResultTable]:
    runs = [run for run in all_runs if split in run.splits_judged()]
    unjudged = [run_name(run, all_runs) for run in all_runs if run not in runs]
    first, name = runs[0], SPLIT_NAMES[split]
    level, units, metrics = first.level, first.units, metrics_of(first.task)
    primary = results(runs, level, split, metrics)
    panels = forest(primary, metrics, len(first.classes), first.covariates)
    figure = picture_forest(panels, first, split, phantom)
    caption = f"{name} split, {first.task.level} level (primary), n = {units}. Estimate (95 % interval)."
    beside = side_metrics_of(first.task)
    side = results(runs, level, split, beside)
    second = "errors" if first.task.is_number else "probabilities"
    tables = [
        ResultTable(f"{name}: {units}", caption, primary, metrics, split == "val", figure, unjudged),
        ResultTable(f"{name}: {units}, {second}", caption, side, beside, False),
    ]
    finer = [*UNIT_FIELD][[*UNIT_FIELD].index(level) + 1 :]
    for level in finer:
        caption = (
            f"{name} split, {level} level, n = {level}s; intervals draw whole participants. Estimate (95 % interval)."
        )
        tables.append(ResultTable(f"{name}: {level}s", caption, results(runs, level, split, metrics), metrics, False))
    return tables


def detail_pictures(run: FinishedRun, phantom: bool) -> dict[str, Picture | None]:
    """Draw the best run's confusion matrix, ROC curves and reliability, of the judged units of validation."""
    predictions = run.predictions(run.level, "val")
    if predictions is not None and run.task.is_number:
        return {"agreement": picture_agreement(predictions, run.task.target, phantom)}
    if predictions is None:
        return {"confusion": None, "roc": None, "reliability": None}
    return {
        "confusion": picture_confusion(predictions, run.classes, phantom),
        "roc": picture_roc(predictions, run.classes, phantom),
        "reliability": picture_reliability(predictions, phantom),
    }


def find_warnings(runs: Sequence[FinishedRun], store_space: str) -> list[str]:
    """Say what a reader must know before any number: records that disagree, foreign spaces, mixed phantoms."""
    found = [
        f"Run {run.id} was made in the embedding space {run.record.asked.space}; the store holds {store_space}."
        for run in runs
        if run.record.asked.space != store_space
    ]
    found += [
        f"Run {run.id}: its predictions and its recorded confusion matrix disagree." for run in runs if _disagrees(run)
    ]
    if len({run.is_phantom for run in runs}) > 1:
        names = ", ".join(run.id for run in runs if run.is_phantom)
        found.append(f"Some runs saw a synthetic phantom ({names}) and others did not.")
    found += [f"Run {run.id}: {caution}." for run in runs if (caution := run.record.fitted.parameters.get("caution"))]
    found += [said for run in runs for said in (*_leans_on(run), *_cannot_tell(run))]
    found += [f"Run {run.id}: {note}." for run in runs for note in _notes(run)]
    if caution := caution_of_run(runs[0], "val"):
        found.append(f"{caution[0].upper()}{caution[1:]}.")
    return found


def _notes(run: FinishedRun) -> list[str]:
    """Give the notes of the flow that put labels or covariates in doubt."""
    doubts = {"age missing", "site disagrees"}
    flow = [step for step in run.record.cohort.flow if step["step"] in doubts]
    return [f"{step['participants']} participants: {step['reason']}" for step in flow]


def _leans_on(run: FinishedRun) -> list[str]:
    """Say where a head tells classes apart over all sites (or devices), but nowhere that it was not trained on."""
    overall = run.estimate(run.level, "val", "macro_auroc")
    return [
        f"Run {run.id} tells the classes apart over all {by}s (macro AUROC {number(overall.value or 0.0)}), but at no "
        f"{by} that it was not trained on ({', '.join(number(value) for value in away)}): what it reads may go with "
        f"the {by}, not with the disease."
        for by, lines in (run.record.fitted.robustness or {}).items()
        if (away := leans(overall, lines))
    ]


def _cannot_tell(run: FinishedRun) -> list[str]:
    """Say where it was asked on what a head leans, and too few people are left at each place to answer.

    Where a class goes with the site, the other classes are few at each: the silence of _leans_on means nothing there.
    """
    said = []
    for by, lines in (run.record.fitted.robustness or {}).items():
        away = [line["without"]["macro_auroc"] for line in lines if "macro_auroc" in (line.get("without") or {})]
        judged = sum(bool(one.interval) for one in away)
        if len(away) >= FEWEST_AWAY > judged:
            said.append(
                f"Run {run.id}: whether it leans on the {by} cannot be known: of {len(lines)} {by}s, {judged} hold "
                "enough of each class in validation to judge it there."
            )
    return said


def leans(overall: Estimate, lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Give the macro AUROCs at places that were left out, where they are near chance and the head is not; else none.

    overall: macro AUROC of the head as it is. Each place alone has few people, and its interval often holds chance. So
    the mean over places (weighed by the variances of their intervals) must lie below overall, and hold chance, too.
    """
    away = [to_estimate((line.get("without") or {}).get("macro_auroc")) for line in lines]
    known = np.array([(one.value, *one.interval) for one in away if one.interval], dtype=np.float64)
    if len(known) < FEWEST_AWAY or not overall.interval or (known[:, 1] > CHANCE_AUROC).any():
        return []
    whole = np.array([overall.value, *overall.interval], dtype=np.float64)
    reach = (known[:, 2] - known[:, 1]) / 2
    weight = 1 / reach**2
    mean, mean_reach = known[:, 0] @ weight / weight.sum(), 1 / np.sqrt(weight.sum())
    apart = whole[0] - mean > np.hypot(mean_reach, (whole[2] - whole[1]) / 2)
    return known[:, 0].tolist() if apart and mean - mean_reach <= CHANCE_AUROC < whole[1] else []


def _disagrees(run: FinishedRun) -> bool:
    predictions = run.predictions(run.level, "val")
    recorded = run.record.judged.confusion.get(run.level)
    if predictions is None or recorded is None:
        return False
    return not np.array_equal(count_confusion(predictions), np.asarray(recorded))
