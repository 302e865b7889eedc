"""The tables that say how far a result can be believed: contrasts, groups, hold-outs, calibration, what else is known.

Everything is read from the run's record; what it does not hold has no table.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from classify.comparing.board import ComparisonRecord, Line, TaskBoard
from classify.comparing.folder import COMPARISON
from classify.comparing.leaderboard import count_worse, shown_difference, standing
from classify.judging.calibrate import describe_method
from classify.judging.kinds import measures_of
from classify.model_files import readable
from classify.run.estimate import ESTIMATE, Estimate
from classify.run.published_folder import COMPARISONS
from classify.run.typed_record import read_typed
from reports.encoders import ENCODER_COLUMNS, WHICH_ENCODER, encoder_rows
from reports.headline import number, spell
from reports.page import in_words
from reports.runs import FinishedRun, to_estimate
from reports.tables import title_of

Cell = str | Estimate

TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_auroc": "Macro AUROC",
    "r2": "R²",
    "mean_absolute_error": "Mean absolute error",
    "root_mean_squared_error": "Root mean squared error",
    "auroc": "AUROC",
    "sensitivity_at_specificity_80": "Sensitivity at specificity 0.80",
    "sensitivity_at_specificity_90": "… at 0.90",
    "sensitivity_at_specificity_95": "… at 0.95",
}


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A table whose cells are words or estimates; signed: estimates are differences."""

    anchor: str
    heading: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    signed: bool = False


def validity_tables(run: FinishedRun) -> list[PlainTable]:
    """List the tables of one run, in the order in which a reader asks."""
    makers: Iterable[Callable[[FinishedRun], PlainTable | None]] = (
        _contrasts, _subgroups, _hold_outs, _calibration, _calibration_by_class, _nuisance, _seeds, _pretraining,
        _twin, _stores, _weights,
    )  # fmt: skip
    return [table for make in makers if (table := make(run)) is not None]


def p_value_sentence(run: FinishedRun) -> str:
    """Say what permuting the labels gave."""
    found = run.record.judged.permutation.get("val")
    if not found:
        return "absent: the run recorded no permutation test"
    said = [f"{_p(p)} by {TITLES[name]}" for name, p in found["p_values"].items()]
    return (
        f"Labels permuted between participants {found['permutations']} times: p = {'; '.join(said)}. "
        "This asks whether the predictions carry any information at all, including what covariates would explain."
    )


def comparison_tables(runs_dir: Path, task: str) -> list[PlainTable]:
    """Show the newest leaderboard of ``classify compare`` below a runs folder that has this task, and its encoders."""
    for path in sorted((runs_dir / COMPARISONS).glob(f"*/{COMPARISON}"), reverse=True):
        with readable(f"{COMPARISONS}/{path.parent.name}/{COMPARISON}"):
            record = read_typed(ComparisonRecord, path)
            if board := record.tasks.get(task):
                return [_leaderboard(board), _encoders(record.encoders, record.encoding_costs)]
    return []


def _encoders(encoders: Mapping[str, Any], costs: Mapping[str, Any]) -> PlainTable:
    """Say which encoder each store of a comparison, or each run that was given to it, comes from, and what it costs."""
    return PlainTable("which-encoder", "Which encoder", WHICH_ENCODER, ENCODER_COLUMNS, encoder_rows(encoders, costs))


def _leaderboard(board: TaskBoard) -> PlainTable:
    headline = measures_of(board.classes).headline
    rows: list[tuple[Cell, ...]] = [
        (
            line.name,
            "baseline" if line.kind == "baseline" else line.model,
            *(to_estimate(line.metrics.get(name)) for name in headline),
            _minus_best(line, board),
            standing(line, board),
            to_estimate((line.difference_to_random_twin or {}).get(headline[0]), "no twin"),
            "" if line.seconds is None else f"{line.seconds:.1f}",
        )
        for line in board.lines
    ]
    corrected = to_estimate(board.best_of_n.corrected.get(headline[0]))
    caption = (
        f"{board.participants} validation participants, all lines on the same bootstrap draws, best first. "
        f"{board.best_of_n.compared} models were compared: the number of the first is too optimistic, since it was "
        "chosen as the best. Where the best is chosen anew in every draw, and judged on the people not drawn, its "
        f"{title_of(headline[0])} is {spell(corrected)}. The intervals of “Minus best” hold for all lines at once, "
        f"whichever model came first by luck: a model is worse than the best only where its interval lies below 0: "
        f"{count_worse(board)}."
    )
    missing = [f"Not made for {name}: {said}." for name, said in board.baselines_missing.items()]
    caption = " ".join([caption, *missing, *(f"{said}." for said in board.unlike_train + board.paired_by_number)])
    columns = (
        "Model",
        "Kind",
        *(TITLES[name] for name in headline),
        "Minus best",
        "Standing",
        "Minus random twin",
        "Seconds",
    )
    return PlainTable("leaderboard", "Leaderboard", caption, columns, rows)


def _minus_best(line: Line, board: TaskBoard) -> Estimate:
    found = (line.difference_to_best or {}).get(measures_of(board.classes).headline[0])
    if found is None:
        return Estimate(absent="it is the best")
    return shown_difference(found, board)


def _contrasts(run: FinishedRun) -> PlainTable | None:
    found = run.record.judged.contrasts.get("val")
    if not found:
        return None
    names = list(next(iter(found.values())))
    rows: list[tuple[Cell, ...]] = [
        (contrast.replace("_", " "), *(to_estimate(table.get(name)) for name in names))
        for contrast, table in found.items()
    ]
    caption = f"Validation {run.units}. Two-sided questions, from the same probabilities."
    return PlainTable("contrasts", "Two-sided questions", caption, ("Question", *(_title(n) for n in names)), rows)


def _subgroups(run: FinishedRun) -> PlainTable | None:
    found = run.record.judged.subgroups.get("val")
    if not found:
        return None
    groups = Counter(line["by"] for line in found)
    rows: list[tuple[Cell, ...]] = [
        (
            str(line["by"]).replace("_", " "),
            str(line["value"]),
            str(line["participants"]),
            *_of_group(line, _headline_of(run)),
        )
        for line in found
        if groups[line["by"]] > 1
    ]
    if not rows:
        return None
    caption = (
        f"Validation {run.units} of each group, with scans of that group only. Small groups have wide intervals; with "
        "fewer than 10 participants of a class there are too few to say."
    )
    columns = ("By", "Group", "Participants", *(TITLES[name] for name in _headline_of(run)))
    return PlainTable("subgroups", "Subgroups", caption, columns, rows)


def _headline_of(run: FinishedRun) -> tuple[str, ...]:
    return measures_of(run.classes).headline


def _of_group(line: Mapping[str, Any], headline: Sequence[str]) -> list[Estimate]:
    few = line.get("caution")
    return [replace(line[name], too_few=few) if few else line[name] for name in headline]


def _hold_outs(run: FinishedRun) -> PlainTable | None:
    found = run.record.fitted.robustness
    if not found:
        return None
    metric = run.primary if run.task.is_number else run.ranking
    rows = [_hold_out(by, line, metric) for by, lines in found.items() for line in lines]
    caption = (
        "The head was fitted again without each site and each device in turn, and judged on the one left out. The last "
        "column compares the loss with that of leaving out as many people at random (mean of ten draws). Its intervals "
        "hold for all lines at once: only one that lies below 0 says that the head leaned on that site or device."
    )
    columns = ("Left out", "Participants", f"{TITLES[metric]} without it", "… with it", "Minus as many at random")
    return PlainTable("hold-outs", "Leave one site or device out", caption, columns, rows)


def _hold_out(by: str, line: Mapping[str, Any], metric: str) -> tuple[Cell, ...]:
    why = line.get("absent", NOT_COMPUTED)
    parts = [to_estimate(line.get(part, {}).get(metric), why) for part in _PARTS]
    return (f"{by} {line['held_out']}", str(line["participants"]), *parts)


NOT_COMPUTED = "not computed; the run was made before this was compared"
_PARTS = ("without", "with", "beyond_chance")


def _calibration(run: FinishedRun) -> PlainTable | None:
    found = run.record.fitted.calibration
    if not found:
        return None
    if run.task.is_number:
        return _calibration_of_number(found)
    rows = [
        (level, *(number(at[when][name]) for name in ("log_loss", "expected_calibration_error") for when in _WHEN))
        for level, at in found["levels"].items()
    ]
    caption = f"Probabilities: {describe_method(found)}. Before: as the head gives them. Lower is better."
    if stated := found.get("prevalence"):
        shares = ", ".join(f"{in_words(name)} {share:.3f}" for name, share in stated.items())
        caption += f" Stated at the prevalence {shares} ({found['prevalence_of']}); validation is weighted to match."
    columns = ("Level", "Log-loss before", "after", "Calibration error before", "after")
    return PlainTable("calibration", "Calibration", caption, columns, rows)


def _calibration_of_number(found: Mapping[str, Any]) -> PlainTable:
    rows: list[tuple[Cell, ...]] = []
    for level, at in found["levels"].items():
        known = isinstance(reach := at.get("interval"), dict)
        held = f"±{reach['half_width']:.4g}" if known else "absent"
        share = to_estimate(reach["covered"] if known else None, "not measured")
        before, after = (at[when]["root_mean_squared_error"] for when in _WHEN)
        rows.append((level, number(before), after, held, share))
    caption = (
        f"{describe_method(found)[0].upper()}{describe_method(found)[1:]}. Before: as the head gives the number. "
        "The interval is for a single answer, and was made from predictions of people held out of training; the last "
        "column is the share of validation that lies in it."
    )
    columns = ("Level", "Root mean squared error before", "after", "Interval of an answer", "It holds")
    return PlainTable("calibration", "Calibration", caption, columns, rows)


def _calibration_by_class(run: FinishedRun) -> PlainTable | None:
    levels = (run.record.fitted.calibration or {}).get("levels", {})
    found = levels.get(run.level, {}).get("by_class", {})
    if not found:
        return None
    names = ("observed_expected", "slope", "intercept")
    rows: list[tuple[Cell, ...]] = [(in_words(name), *(line[one] for one in names)) for name, line in found.items()]
    caption = (
        f"Validation {run.units} at the stated prevalence. Observed/expected: how many people have the class, divided "
        "by how many the probabilities predict; 1 is right, above 1 they are too low. Slope: below 1 they are too sure."
    )
    columns = ("Class", "Observed/expected", "Slope", "Intercept")
    return PlainTable("calibration-by-class", "Calibration of each class", caption, columns, rows)


_WHEN = ("before", "after")


def _nuisance(run: FinishedRun) -> PlainTable | None:
    found = run.record.fitted.probes_of_nuisance
    if not found:
        return None
    rows = [
        (str(line["target"]), str(line["features"]), _title(line["metric"]), number(line["chance"]),
         ESTIMATE.validate_python(line))
        for line in found
    ]  # fmt: skip
    caption = (
        "Linear probes on the same features, fitted on train and judged on validation. A head can use whatever the "
        "embedding knows: a site or device that is predicted well can stand in for the label where the two go together."
    )
    columns = ("Guessed", "Features", "Measure", "Chance", "Found")
    return PlainTable("nuisance", "What else the embedding knows", caption, columns, rows)


def _seeds(run: FinishedRun) -> PlainTable | None:
    found = run.record.fitted.seed_sensitivity
    if not found:
        return None
    rows: list[tuple[Cell, ...]] = [
        (TITLES[name], number(said["mean"]), f"{number(said['lowest'])} to {number(said['highest'])}")
        for name, said in found["metrics"].items()
        if "mean" in said
    ]
    caption = f"{len(found['seeds'])} fits: {found['meaning']}."
    return PlainTable("seeds", "Other seeds", caption, ("Metric", "Mean", "Range"), rows)


def _pretraining(run: FinishedRun) -> PlainTable | None:
    found, headline = run.record.cohort.pretraining.get("without"), _headline_of(run)
    if not found:
        return None
    rows = [
        (split, "", *(told for _ in headline))
        if isinstance(told, Estimate)
        else (split, str(told["participants"]), *(to_estimate(told["metrics"].get(name)) for name in headline))
        for split, told in found.items()
    ]
    caption = "The result without the participants that the encoder was pretrained on, recognised by number alone."
    if doubtful := run.record.cohort.pretraining.get("with_other_volumes"):
        caption += f" {doubtful} of these numbers have other volumes here than in an earlier run: they are doubtful."
    columns = ("Split", "Participants left", *(TITLES[name] for name in headline))
    return PlainTable("pretraining", "Without participants of pretraining", caption, columns, rows)


def _twin(run: FinishedRun) -> PlainTable | None:
    found = run.record.rivals.difference_to_random_twin
    if not found:
        return None
    rows = [(TITLES.get(name, name), measured) for name, measured in found.items()]
    caption = "The same head on the same architecture with random weights: what pretraining is worth here."
    return PlainTable("twin", "Against the random twin", caption, ("Metric", "Difference"), rows, signed=True)


def _stores(run: FinishedRun) -> PlainTable | None:
    found = run.record.rivals.stores
    if not found:
        return None
    rows: list[tuple[Cell, ...]] = [
        (way, TITLES.get(name, name), measured)
        for way, measures in found["differences_to_first"].items()
        for name, measured in measures.items()
    ]
    caption = (
        f"The run reads the stores {', '.join(found['stores'])}: one head on the features of all side by side, or the "
        f"mean of a head's probabilities on each, minus {found['first']} alone, on the same people. {found['adds']}."
    )
    columns = ("All stores", "Metric", f"Minus {found['first']} alone")
    return PlainTable("stores", "What the other stores add", caption, columns, rows, signed=True)


def _weights(run: FinishedRun) -> PlainTable | None:
    found = run.record.cohort.class_weights
    if not found:
        return None
    rows = [(in_words(name), number(weight)) for name, weight in found.items()]
    caption = "How much a participant of each class counted when the head was fitted, so that classes weigh the same."
    return PlainTable("weights", "Class weights", caption, ("Class", "Weight"), rows)


def _title(name: str) -> str:
    return TITLES.get(name, in_words(name).capitalize())


def _p(measured: Estimate) -> str:
    return f"absent ({measured.absent})" if measured.value is None else f"{measured.value:.4f}"
