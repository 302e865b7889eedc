"""Runs that were cross-validated: judged on everybody, fold by fold, without a test split; in words of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from classify.cohort.splits import OUT_OF_FOLD
from classify.cohort.tasks import task_of_record
from classify.run.estimate import Estimate
from reports.headline import Headline, hardest, spell
from reports.runs import FinishedRun, cohort_of, to_estimate
from reports.validity import TITLES, Cell, PlainTable

CLAIM = (
    "Cross-validated, no test split: what follows holds for the people of this cohort, and no other people were asked."
)


def split_kinds(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[FinishedRun]]:
    """Return the runs that were judged on a validation split, and those that were cross-validated."""
    return [run for run in runs if not run.record.is_crossed], [run for run in runs if run.record.is_crossed]


def crossed_alone(
    runs: Sequence[FinishedRun], crossed: Sequence[FinishedRun], task: str | None, cohort: str | None
) -> list[FinishedRun]:
    """Return the cross-validated runs where a task and cohort have no others; else they stand next to the others."""

    def wanted(run: FinishedRun) -> bool:
        return task in {None, run.record.asked.task} and cohort_of(run).startswith(cohort or "")

    return [run for run in crossed if wanted(run)] if not any(map(wanted, runs)) else []


def crossed_headline(runs: Sequence[FinishedRun]) -> Headline:
    """Say what the first of the best cross-validated runs found, without any claim about a test."""
    known = [(value, run) for run in runs if (value := _judged(run, run.primary).value) is not None]
    if not known:
        return Headline("cross-validated", CLAIM, ("No run has a result.",), None)
    run = max(known, key=lambda pair: pair[0])[1]
    metric = run.primary
    found = f"{_title(metric).lower()} {spell(_judged(run, metric))} over {_units(run)}"
    how = f"each predicted by a fit on the other folds of {_crossed(run)['folds']}"
    sentences = [f"The highest of {len(runs)} is {run.model} ({run.id}): {found}, {how}."]
    if len(runs) > 1:
        sentences.append("It was chosen as the highest on the same people, so its number is too optimistic.")
    rivals = {name: to_estimate(of.get(metric)) for name, of in run.record.judged.difference_to_baselines.items()}
    if rivals:
        rival = hardest(rivals)
        sentences.append(
            f"The hardest baseline is {rival}; the paired difference, run minus {rival}, is "
            f"{spell(rivals[rival], signed=True)}."
        )
    return Headline("cross-validated", CLAIM, tuple(sentences), None)


def crossed_tables(runs: Sequence[FinishedRun]) -> list[PlainTable]:
    """Show the out-of-fold numbers of each run and its baselines, what a run is above them, and each fold."""
    return [_overall(runs), *_against(runs), _by_fold(runs)] if runs else []


def _overall(runs: Sequence[FinishedRun]) -> PlainTable:
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        metrics = _metrics(run)
        rows.append((run.id, run.model, _units(run), *(_judged(run, name) for name in metrics)))
        for name, of in run.record.judged.baselines.items():
            found = of.get(OUT_OF_FOLD, {})
            rows.append((run.id, f"baseline {name}", _units(run), *(to_estimate(found.get(one)) for one in metrics)))
    caption = (
        "All out-of-fold predictions together: everybody is predicted once, by a model whose search, fit and "
        "calibration did not see them. Intervals draw whole participants; they do not hold the luck of who came "
        "into which fold."
    )
    columns = ("Run", "Model", "Judged", *(_title(name) for name in _metrics(runs[0])))
    return PlainTable("cross-validated", "Cross-validated, no test split", caption, columns, rows)


def _against(runs: Sequence[FinishedRun]) -> list[PlainTable]:
    names = _metrics(runs[0])
    rows: list[tuple[Cell, ...]] = [
        (run.id, rival, *(to_estimate(of.get(name)) for name in names))
        for run in runs
        for rival, of in run.record.judged.difference_to_baselines.items()
    ]
    caption = "Paired on the same people and folds: run minus baseline. An interval that holds 0 shows no difference."
    columns = ("Run", "Minus", *(_title(name) for name in names))
    made = PlainTable("cross-validated-differences", "Against the baselines", caption, columns, rows, signed=True)
    return [made] if rows else []


def _by_fold(runs: Sequence[FinishedRun]) -> PlainTable:
    names = _metrics(runs[0])
    rows: list[tuple[Cell, ...]] = [
        (
            run.id,
            str(line["fold"]),
            str(line["participants"]),
            *(to_estimate(line["metrics"].get(name)) for name in names),
            f"{line['features']['layer']}, {', '.join(line['features']['pools']) or 'tokens'}; {line['aggregation']}",
            str(line["calibration"] or "none"),
        )
        for run in runs
        for line in _crossed(run)["lines"]
    ]
    caption = (
        "Each fold alone, and what was chosen without it. Folds are small: how far they lie apart says how steady the "
        "result is, and none of them is a result."
    )
    columns = ("Run", "Fold", "Participants", *(_title(name) for name in names), "Chosen", "Calibration")
    return PlainTable("folds", "Fold by fold", caption, columns, rows)


def _crossed(run: FinishedRun) -> Mapping[str, Any]:
    return run.record.fitted.cross_validation or {"folds": 0, "lines": []}


def _metrics(run: FinishedRun) -> tuple[str, ...]:
    """Name the metrics that the run stands by, as its folds have them."""
    return tuple(_crossed(run)["lines"][0]["metrics"]) if _crossed(run)["lines"] else (run.primary,)


def _judged(run: FinishedRun, metric: str) -> Estimate:
    return run.estimate(task_of_record(run.record).judged, OUT_OF_FOLD, metric)


def _units(run: FinishedRun) -> str:
    level = task_of_record(run.record).judged
    count = sum(int(line["units"]) for line in _crossed(run)["lines"])
    return f"{count} {level}s"


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())
