"""Models side by side on the same participants and the same bootstrap replicates; pure functions on predictions.

Whoever stands first was chosen for standing first. So every difference to it also has an interval that holds for all
lines at once, and the best line a number that the choice did not flatter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from classify.comparing.board import BestOfN, Board, Kind, Line
from classify.errors import CohortError
from classify.judging.bootstrap import (
    Replicates,
    count_people,
    draw_replicates,
    measure,
    paired_differences,
    replicate_headline,
    summarise,
)
from classify.judging.kinds import CLASSES, measures_of
from classify.judging.simultaneous import hold_at_once
from classify.run.estimate import TOO_FEW, Estimate
from classify.run.predictions import Predictions, rows_of

RANKED_BY = CLASSES.headline[0]
"""Of classes; see Measures."""

DIFFERENCES_HOLD = "for all lines at once, whichever model came first"
"""What the simultaneous intervals of a board promise; boards made before they did do not carry it."""

OLD_BOARD = "made before the choice of the best was allowed for"
WORSE = "worse than the best"

Values = Mapping[str, Float64[np.ndarray, " R"]]


@dataclass(frozen=True)
class Entry:
    """One line to be: predictions on val, or out of fold (participants; volumes too), and what to say of them.

    kind: model (may be the best), together (a model with age and site) or baseline. twin: name of the entry that the
    same head makes of the random encoder. seconds: of search and fit.
    """

    name: str
    kind: Kind
    people: Predictions
    told: Mapping[str, str]
    seconds: float | None = None
    twin: str | None = None


def rank_entries(entries: Sequence[Entry], classes: Sequence[str], *, replicates: int, seed: int) -> Board:
    """Give the leaderboard of one task.

    Only participants that every entry predicted are used. Raises: CohortError where there are none, or where two
    entries give a participant different labels.
    """
    common = keep_common(entries)
    drawn = draw_replicates(common[0].people.participant, replicates=replicates, seed=seed)
    measured = {entry.name: measure(entry.people, drawn, classes) for entry in common}
    values = {name: drawn_values for name, (_, drawn_values) in measured.items()}
    models = [entry for entry in common if entry.kind == "model"]
    measures = measures_of(classes)
    ranked_by = measures.headline[0]
    best = find_best([entry.name for entry in models], values, ranked_by)
    lines = [
        Line(
            name=entry.name,
            kind=entry.kind,
            **entry.told,
            participants=len(set(original.people.participant.tolist())),
            seconds=entry.seconds,
            metrics={name: measured[entry.name][0][name] for name in measures.overall},
            difference_to_best=_differences(values, entry.name, best, entry.people, classes),
            difference_to_random_twin=_differences(values, entry.name, entry.twin, entry.people, classes),
        )
        for entry, original in zip(common, entries, strict=True)
    ]
    if best:
        add_simultaneous(lines, values, best, [entry.name for entry in models])
    lines.sort(key=lambda line: _rank(line.metrics[ranked_by]))
    corrected = judge_choice(models, drawn, values, classes) if best else {}
    return Board(
        split=common[0].people.split,
        ranked_by=ranked_by,
        **count_people(common[0].people, classes),
        replicates=replicates,
        seed=seed,
        best=best,
        differences_hold=DIFFERENCES_HOLD,
        best_of_n=BestOfN(len(models), corrected),
        lines=lines,
    )


def keep_common(entries: Sequence[Entry]) -> list[Entry]:
    """Keep the participants that all entries predicted, in one order; the labels must agree."""
    shared = set(entries[0].people.unit.tolist())
    for entry in entries[1:]:
        shared &= set(entry.people.unit.tolist())
    if not shared:
        raise CohortError(
            f"the models to compare share no participant of {entries[0].people.split}; a difference needs people that "
            "both predicted"
        )
    names = np.array(sorted(shared))
    kept = []
    for entry in entries:
        order = np.argsort(entry.people.unit)
        rows = order[np.searchsorted(entry.people.unit[order], names)]
        kept.append(replace(entry, people=rows_of(entry.people, rows)))
    for entry in kept:
        if unlike := int((entry.people.label != kept[0].people.label).sum()):
            raise CohortError(
                f"{kept[0].name} and {entry.name}: {unlike} participants have different labels; "
                f"compare runs of one participants table"
            )
    return kept


def find_best(names: Sequence[str], values: Mapping[str, Values], ranked_by: str = RANKED_BY) -> str | None:
    """Name the model with the highest ranked_by on everybody; the first of equals, None where it is undefined."""
    known = [(float(values[name][ranked_by][0]), name) for name in names if np.isfinite(values[name][ranked_by][0])]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def judge_choice(
    models: Sequence[Entry], drawn: Replicates, values: Mapping[str, Values], classes: Sequence[str]
) -> dict[str, Estimate]:
    """Judge "take the best on val" itself: choose anew in each replicate, judge on the participants not drawn in it.

    The mean headline of the chosen (Tsamardinos et al., Machine Learning 2018: bootstrap bias corrected selection). It
    errs on the low side, since about a third of the people chooses less well than all of them.
    """
    left_out = Replicates(drawn.participant, (drawn.counts[:, 1:] == 0).astype(np.int64))
    outside = {entry.name: replicate_headline(entry.people, left_out, classes) for entry in models}
    headline = measures_of(classes).headline
    inside = np.stack([values[entry.name][headline[0]][1:] for entry in models])
    chosen = np.where(np.isfinite(inside), inside, -np.inf).argmax(axis=0)
    columns = np.arange(len(chosen))
    judged = {}
    for metric in headline:
        found = np.stack([outside[entry.name][metric] for entry in models])[chosen, columns]
        mean = float(np.nanmean(found)) if np.isfinite(found).any() else np.nan
        judged[metric] = summarise(np.concatenate([[mean], found]), "no replicate leaves every class a participant")
    return judged


def add_simultaneous(lines: Sequence[Line], values: Mapping[str, Values], best: str, models: Sequence[str]) -> None:
    """Add "simultaneous": low and high to each difference to the best, which hold for all lines at once.

    Any model could have come first, so the family is every difference of a line to every model: whichever of equal
    models leads by luck, all of these intervals hold 0 together in 95 % of studies.
    """
    for metric in dict.fromkeys(metric for line in lines for metric in line.difference_to_best or {}):
        others = [line for line in lines if (line.difference_to_best or {}).get(metric, Estimate()).ends]
        apart = {line.name: values[line.name][metric] - values[best][metric] for line in others}
        family = {
            f"{line.name} - {model}": values[line.name][metric] - values[model][metric]
            for line in lines
            for model in models
            if line.name != model and np.isfinite(values[line.name][metric][0])
        }
        pairs = [f"{one} - {other}" for one in models for other in models]
        held = hold_at_once(apart, family, like=pairs)
        for line in others:
            if (of := line.difference_to_best) and line.name in held:
                of[metric] = replace(of[metric], simultaneous=held[line.name])


def _differences(
    values: Mapping[str, Values], name: str, other: str | None, people: Predictions, classes: Sequence[str]
) -> dict[str, Estimate] | None:
    """Give the headline of one line minus another's, None against itself or nobody."""
    if other is None or other == name or other not in values:
        return None
    return paired_differences(values[name], values[other], people, classes)


def standing(line: Line, board: Board) -> str:
    """Say how a line stands to the best, by what ranks the board: the same words on page, CSV and terminal."""
    if line.name == board.best:
        return "best"
    shown = shown_difference((line.difference_to_best or {}).get(board.ranked_by, Estimate()), board)
    if shown.value is None:
        return "not compared"
    if not shown.interval:
        return TOO_FEW
    if shown.is_above():
        return "better than the best model"
    return WORSE if max(shown.interval) < 0 else "not shown to be worse"


def shown_difference(found: Estimate, board: Board) -> Estimate:
    """Return a difference to the best as a page shows it; that of an old board has no interval to be believed."""
    return (found if board.differences_hold else replace(found, too_few=OLD_BOARD)).at_once()


def count_worse(board: Board) -> str:
    """Say of how many models it is shown that the best one is better."""
    others = [line for line in board.lines if line.kind == "model" and line.name != board.best]
    worse = sum(standing(line, board) == WORSE for line in others)
    return f"with all lines taken together, {worse} of the other {len(others)} models are shown to be {WORSE}"


def _rank(measured: Estimate) -> float:
    return np.inf if measured.value is None else -measured.value
