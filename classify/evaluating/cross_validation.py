"""Judge everybody on outer folds of participants: the whole search, the fit and the calibration inside each.

One set of out-of-fold predictions comes of it, which is judged as a split is. Before they are put together, the logits
of each fold are moved by what its fit says of the people that it was fitted on, on average: a fit without one class's
people speaks lower of that class, which alone would rank a head that knows nothing below chance (Forman & Scholz,
SIGKDD Explorations 2010;12:49).
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from classify.baselines.covariates import choose_baselines, describe_units
from classify.cohort.splits import NO_TEST, OUT_OF_FOLD, check_no_leak, grouped_folds
from classify.cohort.splitting import FOLD
from classify.cohort.table import Cohort
from classify.errors import CohortError
from classify.evaluating.predict_split import DUMMY, ValJudged, hold_out, predict_beside, predict_calibrated
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, fit_model
from classify.fitting.source import FeatureSource
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.calibrate import Choice, calibrate_on
from classify.judging.calibration_report import report_calibration, shown_by
from classify.judging.decision_curve import AS_THE_HEAD
from classify.judging.kinds import measures_of
from classify.judging.prevalence import Prevalence
from classify.judging.rivals import compare_with_rivals
from classify.judging.split import judge_split
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, join_predictions, judged_of, rows_of
from classify.run.record import Missing
from classify.search.folds import HELD_OUT_FOLDS, smallest_class
from classify.search.nested import describe_chosen
from classify.search.search import Chosen
from embeddings_store.errors import UsageError

FEWEST = 3
"""Participants of a class: one is held out, and two are left for the folds inside."""

DECIMALS = 12
"""Of logits that were moved: those of one value stay tied, whatever the last bit of their mean."""

GUESSING = "guessing"
"""The dummy as a rival: of a run that has no split, it has to be beaten like any other baseline."""

Choose = Callable[[FeatureSource, int], Chosen]
"""Searches the train split of a source; the number is that of the outer fold."""


@dataclass(frozen=True)
class Asked:
    """How the folds are judged. method: of calibration, None for none; stated: None of a number; pretrained: see
    judge_split.
    """

    method: str | None
    stated: Prevalence | None
    pretrained: Set[str] | None
    replicates: int
    seed: int

    def calibrate(self, held_out: Mapping[str, Predictions]) -> Choice | None:
        """Fit the calibration on held-out predictions of training people."""
        return calibrate_on(self.method, held_out, self.stated.shares if self.stated else (), seed=self.seed)


@dataclass(frozen=True)
class FoldFit:
    """What was fitted without one fold, and how it is called. held: raw features of the people of the fold."""

    name: str
    rows: Int64[np.ndarray, " n"]
    chosen: Chosen
    model: FittedModel
    calibration: Choice | None
    held: FeatureTable
    cohort: Cohort
    levels: Mapping[str, Predictions]
    own: Mapping[str, Float64[np.ndarray, " k"]]
    others: Mapping[str, Predictions]
    own_of_others: Mapping[str, Float64[np.ndarray, " k"]]


@dataclass(frozen=True)
class CrossValidated:
    """The judgement of everybody, what the record says fold by fold, the fold of each participant, and what is missing.

    judged.calibrator: of the final model, fitted on held-out predictions of everybody.
    """

    judged: ValJudged
    record: dict[str, Any]
    fold: dict[str, str]
    missing: list[Missing]

    def with_folds(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add the fold of each volume's participant to the table of a cohort, "" to those of test."""
        return table.assign(fold=table["participant"].map(self.fold).fillna(""))


def deal_outer(cohort: Cohort, asked: int | None, seed: int) -> tuple[Int64[np.ndarray, " n"], list[str]]:
    """Give each line of the cohort the number of its fold, -1 to those of test, and the names of the folds.

    asked: how many, where the labels do not say them. Raises: UsageError for more folds than the smallest
    class has participants, CohortError where a fold leaves too few of a class to fit on; LeakError for a participant
    in two folds.
    """
    table, classes = cohort.table, cohort.task.classes
    here = (table["split"] == "train").to_numpy()
    people, label = table["participant"].to_numpy(str)[here], table["label"].to_numpy()[here]
    given = np.array([]) if cohort.folds is None else cohort.folds[FOLD].to_numpy(str)[here]
    by_hand = bool(len(given)) and bool((given != "").all())
    names = sorted(set(given), key=int) if by_hand else [str(number + 1) for number in range(asked or 0)]
    _refuse_too_many(len(names), people, label, classes, by_hand=by_hand)
    fold = np.full(len(table), -1, np.int64)
    fold[here] = (
        np.array([names.index(one) for one in given], dtype=np.int64)
        if by_hand
        else grouped_folds(people, label, folds=len(names), seed=seed)
    )
    inside = fold[here]
    check_no_leak({f"fold {name}": people[inside == number].tolist() for number, name in enumerate(names)})
    for number, name in enumerate(names):
        for place, one in enumerate(classes):
            left = len(set(people[(inside != number) & (label == place)]))
            if left < FEWEST - 1:
                raise CohortError(
                    f"cross-validation: without fold {name}, {left} participants of {one} are left to fit on; expected "
                    f"at least {FEWEST - 1}; choose other folds, or leave {one} out of the question"
                )
    return fold, names


def _refuse_too_many(
    folds: int, people: np.ndarray, label: np.ndarray, classes: Sequence[str], *, by_hand: bool
) -> None:
    option = f"{folds} folds of the labels" if by_hand else f"--cross-validate {folds}"
    counts = {one: len(set(people[label == number])) for number, one in enumerate(classes)}
    if not counts:
        if folds > (count := len(set(people))):
            raise UsageError(f"{option}: there are {count} participants; give fewer folds")
        return
    name, smallest = min(counts.items(), key=lambda item: item[1])
    if smallest < FEWEST:
        raise CohortError(
            f"{option}: every class needs {FEWEST} participants, and {name} has {smallest}; leave {name} out of the "
            "question, or join it with another class"
        )
    if folds > smallest:
        raise UsageError(
            f"{option}: every fold needs every class, and {name} has {smallest} participants; give {smallest} folds or "
            "fewer"
        )


def cross_validate(
    source: FeatureSource,
    folds: tuple[Int64[np.ndarray, " n"], Sequence[str]],
    choose: Choose,
    final: FittedModel,
    asked: Asked,
    tell: Callable[[str], None],
) -> CrossValidated:
    """Search, fit, calibrate and predict fold by fold, and judge all predictions together.

    source: everybody, as train. folds: see deal_outer. final: fitted on everybody; its calibration is what predict
    uses, and no number here is its own. Raises: UsageError, CohortError.
    """
    fold, names = folds
    fits = []
    for number, name in enumerate(names):
        held = fold == number
        people = source.cohort.table.loc[held, "participant"].nunique()
        tell(f"fold {name}, {number + 1} of {len(names)}: {people} participants held out")
        fits.append(_fit_fold(source, held, fold >= 0, name, number, choose, asked))
    task, cohort = source.cohort.task, _renamed(source.cohort)
    levels = {level: _join(fits, level, number=task.is_number) for level in fits[0].levels}
    missing = _missing_of(fits)
    kept = [name for name in fits[0].others if all(name in fit.others for fit in fits)]
    others = {name: _join_others(fits, name, number=task.is_number) for name in kept}
    calibrated = _calibrate_final(final, source, asked)
    said = judge_split(
        levels, others, cohort, _people_of(fits, cohort, number=task.is_number),
        shown=shown_by(calibrated.calibrator, asked.stated) if calibrated else AS_THE_HEAD,
        pretrained=asked.pretrained, replicates=asked.replicates, seed=asked.seed,
    )  # fmt: skip
    rivals = _with_guessing(judged_of(levels), others, task.classes, asked)
    said = replace(said, judged=replace(said.judged, difference_to_baselines=rivals))
    report = None
    if calibrated and asked.stated:
        train = source.table(final.features).only("train")
        inner = min(HELD_OUT_FOLDS, smallest_class(train.participant, train.y))
        report = report_calibration(
            calibrated, asked.stated, levels, task.classes, folds=inner, replicates=asked.replicates, seed=asked.seed
        ) | {"fitted_on": "out-of-fold predictions of everybody", "judged_by": "the calibration of each fold's own"}
    judged = ValJudged(levels, others, said, calibrated.calibrator if calibrated else None, report)
    record = {
        "folds": len(names),
        "by": "participant",
        "seed": asked.seed,
        "claim": NO_TEST,
        "lines": [_describe_fold(fit, task.classes, asked) for fit in fits],
    }
    owners = source.cohort.table["participant"].to_numpy(str)
    of_person = {owners[row]: names[fold[row]] for row in np.flatnonzero(fold >= 0)}
    return CrossValidated(judged, record, of_person, missing)


def _fit_fold(
    source: FeatureSource, held: np.ndarray, used: np.ndarray, name: str, number: int, choose: Choose, asked: Asked
) -> FoldFit:
    """Do on the people outside a fold all that a run does on train, and predict those of the fold."""
    whole = source.cohort
    split = np.where(held, OUT_OF_FOLD, np.where(used, "train", "test"))
    cohort = replace(whole, table=whole.table.assign(split=split))
    chosen = choose(FeatureSource(cohort, source.pooled, source.space, source.read_tokens), number)
    features = replace(source.table(chosen.spec.features), split=split)
    train, apart = features.only("train"), features.only(OUT_OF_FOLD)
    model = fit_model(chosen.spec, train, classes=len(whole.task.classes), seed=asked.seed)
    held_out = hold_out(model, train, cohort, seed=asked.seed)
    fitted = asked.calibrate(held_out)
    levels = predict_calibrated(model, fitted, apart, cohort, OUT_OF_FOLD)
    own = {
        level: part.logits.mean(axis=0)
        for level, part in model.predict(train, classes=len(whole.task.classes), split="train").items()
    }
    count = len(judged_of(levels).label)
    others = predict_beside(judged_of(held_out), judged_of(levels), cohort, model.head.name, and_train=True)
    return FoldFit(
        name, np.flatnonzero(held), chosen, model, fitted, apart, cohort, levels, own,
        {one: rows_of(part, np.arange(count)) for one, part in others.items()},
        {one: part.logits[count:].mean(axis=0) for one, part in others.items()},
    )  # fmt: skip


def _join(fits: Sequence[FoldFit], level: str, *, number: bool) -> Predictions:
    parts, own = [fit.levels[level] for fit in fits], [fit.own[level] for fit in fits]
    return _put_together(parts, own, None if number else np.mean(own, axis=0), shown=_is_shown(fits))


def _join_others(fits: Sequence[FoldFit], name: str, *, number: bool) -> Predictions:
    parts, own = [fit.others[name] for fit in fits], [fit.own_of_others[name] for fit in fits]
    return _put_together(parts, own, None if number else np.mean(own, axis=0), shown=False)


def _is_shown(fits: Sequence[FoldFit]) -> bool:
    """Say whether probabilities are calibrated, and so at one prevalence in every fold."""
    return fits[0].calibration is not None


def _put_together(
    parts: Sequence[Predictions], own: Sequence[np.ndarray], mean: np.ndarray | None, *, shown: bool
) -> Predictions:
    """Move the logits of each part from the mean of its own fit to that of all; None: numbers stay what they are."""
    if mean is None:
        return join_predictions(parts)
    return join_predictions([_move(part, one, mean, shown=shown) for part, one in zip(parts, own, strict=True)])


def _move(part: Predictions, own: np.ndarray, mean: np.ndarray, *, shown: bool) -> Predictions:
    logits = np.round(part.logits - own, DECIMALS) + mean
    return replace(part, logits=logits, probability=part.probability if shown else softmax(logits))


def _people_of(fits: Sequence[FoldFit], cohort: Cohort, *, number: bool) -> Callable[[np.ndarray], Predictions]:
    """Predict units from a part of their volumes, each by the fit without them."""
    place = {int(row): at for at, row in enumerate(np.flatnonzero(cohort.table["split"] == OUT_OF_FOLD))}
    level = judged_of(fits[0].levels).level
    mean = None if number else np.mean([fit.own[level] for fit in fits], axis=0)

    def predict(chosen: np.ndarray) -> Predictions:
        parts, own = [], []
        for fit in fits:
            mine = chosen[[place[int(row)] for row in fit.rows]]
            if mine.any():
                found = predict_calibrated(fit.model, fit.calibration, fit.held.where(mine), fit.cohort, OUT_OF_FOLD)
                parts.append(judged_of(found))
                own.append(fit.own[level])
        return _put_together(parts, own, mean, shown=_is_shown(fits))

    return predict


def _with_guessing(
    people: Predictions, others: Mapping[str, Predictions], classes: Sequence[str], asked: Asked
) -> dict[str, dict[str, Estimate]]:
    """Compare with every rival, and with guessing among them.

    What knows nothing lands below chance in folds as easily as above it: a site that goes with the label outside a fold
    by luck goes against it inside. To be above such a baseline is no merit.
    """
    drawn = draw_replicates(people.participant, replicates=asked.replicates, seed=asked.seed)
    values = {name: measure(part, drawn, classes)[1] for name, part in others.items()}
    if DUMMY in values:
        values[GUESSING] = values[DUMMY]
    return compare_with_rivals(measure(people, drawn, classes)[1], values, people, classes)


def _calibrate_final(final: FittedModel, source: FeatureSource, asked: Asked) -> Choice | None:
    train = source.table(final.features).only("train")
    return asked.calibrate(hold_out(final, train, source.cohort, seed=asked.seed))


def _renamed(cohort: Cohort) -> Cohort:
    """Call everybody who was judged by the name of the split of their predictions."""
    table = cohort.table
    return replace(cohort, table=table.assign(split=table["split"].where(table["split"] != "train", OUT_OF_FOLD)))


def _missing_of(fits: Sequence[FoldFit]) -> list[Missing]:
    """List the baselines that some fold cannot make, each once, with the first reason."""
    found: dict[str, Missing] = {}
    for fit in fits:
        units = (describe_units(fit.cohort, split) for split in ("train", OUT_OF_FOLD))
        for line in choose_baselines(fit.cohort.task, *units)[1]:
            found.setdefault(line["name"], {"name": line["name"], "reason": f"fold {fit.name}: {line['reason']}"})
    return list(found.values())


def _describe_fold(fit: FoldFit, classes: Sequence[str], asked: Asked) -> dict[str, Any]:
    people = judged_of(fit.levels)
    drawn = draw_replicates(people.participant, replicates=asked.replicates, seed=asked.seed)
    measured, _ = measure(people, drawn, classes)
    return {
        "fold": fit.name,
        "participants": len(set(people.participant.tolist())),
        "units": len(people.label),
        "metrics": {name: measured[name] for name in measures_of(classes).headline},
        "calibration": fit.calibration.calibrator.method if fit.calibration else None,
        **describe_chosen(fit.chosen),
    }
