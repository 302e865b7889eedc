"""Figures with the words that belong to them: title, caption (n and level), and a text for those who can't see them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classify.run.estimate import Estimate
from classify.run.predictions import Predictions
from reports.curves import bin_reliability, count_confusion, macro_roc, trace_roc
from reports.figures import draw_agreement, draw_confusion, draw_forest, draw_reliability, draw_roc
from reports.headline import number
from reports.runs import FinishedRun
from reports.tables import Panel, units_judged

SPLIT_NAMES = {"val": "Validation", "test": "Test"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as it stands on a page."""

    anchor: str
    title: str
    caption: str
    alt: str
    data_uri: str


def picture_forest(panels: Sequence[Panel], run: FinishedRun, split: str, phantom: bool) -> Picture:
    """Show every run and baseline with its interval. run: any of those that were judged on these units."""
    caption = (
        f"{SPLIT_NAMES[split]} {run.units}, n = {units_judged(run, run.level, split)}. Blue dots: runs; grey diamonds: "
        "baselines; bars: 95 % intervals. The dashed line is what guessing gives or, in the last panel, no difference "
        "to the covariates."
    )
    first = panels[0]
    said = [f"{name} {_said(e)}" for name, e in zip(first.names, first.estimates, strict=True) if e is not None]
    alt = f"Interval plot. {first.title}: {'; '.join(said)}."
    return Picture(f"forest-{split}", "Every run and baseline.", caption, alt, draw_forest(panels, phantom))


def picture_confusion(predictions: Predictions, classes: Sequence[str], phantom: bool) -> Picture:
    """Show the confusion matrix."""
    counts = count_confusion(predictions)
    cells = [f"{name}: {', '.join(str(n) for n in row)}" for name, row in zip(classes, counts.tolist(), strict=True)]
    caption = f"{_people(predictions)}. Counts, and the share of each true class (row)."
    alt = f"Confusion matrix; rows are true classes, columns predicted ones in the same order. {'; '.join(cells)}."
    return Picture("confusion", "Confusion matrix.", caption, alt, draw_confusion(counts, classes, phantom))


def picture_roc(predictions: Predictions, classes: Sequence[str], phantom: bool) -> Picture:
    """Show the ROC curves of each class against the rest, and their mean."""
    curves = trace_roc(predictions, classes)
    macro = macro_roc(curves) if len(curves) > 1 else None
    areas = [f"{c.name} {number(c.auroc) if c.auroc is not None else f'absent ({c.absent})'}" for c in curves]
    caption = f"{_people(predictions)}. Each class against the rest" + (
        ", and the mean curve in black." if macro else "."
    )
    alt = f"ROC curves. Areas: {'; '.join(areas)}."
    if macro is not None:
        alt += f" Macro: {number(macro.auroc) if macro.auroc is not None else f'absent ({macro.absent})'}."
    return Picture("roc", "ROC curves.", caption, alt, draw_roc(curves, macro, phantom))


def picture_reliability(predictions: Predictions, phantom: bool) -> Picture:
    """Show how far probabilities can be taken at their word."""
    reliability = bin_reliability(predictions)
    bins = len(reliability.count)
    caption = (
        f"{_people(predictions)}, {bins} bins. Expected calibration error {number(reliability.ece)}. Points below the "
        "dashed line: the model was overconfident. Bars: how many answers each point rests on."
    )
    filled = [
        f"at {number(c)} right {number(a)} (n = {n})"
        for c, a, n in zip(reliability.confidence, reliability.accuracy, reliability.count, strict=True)
        if n
    ]
    alt = f"Reliability diagram. Probability given: {'; '.join(filled)}."
    return Picture("reliability", "Reliability.", caption, alt, draw_reliability(reliability, phantom))


def picture_agreement(predictions: Predictions, target: str, phantom: bool) -> Picture:
    """Show each unit's number against what was predicted, and how far the two lie apart (Bland-Altman)."""
    truth, said = predictions.label.astype(np.float64), predictions.probability[:, 0]
    apart = said - truth
    bias, reach = float(apart.mean()), 1.96 * float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    caption = (
        f"{_people(predictions)}. Left: on the dashed line the prediction is right. Right: prediction minus truth over "
        f"their mean; lines: bias {bias:.4g} and limits of agreement {bias - reach:.4g} to {bias + reach:.4g} "
        "(Bland & Altman 1986)."
    )
    alt = f"Predicted {target} against the true one, and their difference; bias {bias:.4g}."
    drawn = draw_agreement(truth, said, (bias - reach, bias, bias + reach), target, phantom)
    return Picture("agreement", f"Predicted and true {target}.", caption, alt, drawn)


def _people(predictions: Predictions) -> str:
    return f"{SPLIT_NAMES[predictions.split]} split, {predictions.level} level, n = {len(predictions.label)}"


def _said(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"absent ({estimate.absent})"
    ends = " to ".join(map(number, estimate.interval))
    return f"{number(estimate.value)} ({ends})" if ends else number(estimate.value)
