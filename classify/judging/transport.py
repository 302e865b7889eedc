"""What a run loses on the way to another place: the gap to its own people, and what recalibrating on a few there gives.

The two cohorts have nobody in common, so their bootstraps are independent, and the gap's interval is that of the
difference of the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from classify.judging.bootstrap import draw_replicates, measure, replicate_metrics, summarise, why_too_few
from classify.judging.calibrate import Calibrator, choose_calibrator
from classify.judging.calibration_report import report_levels
from classify.judging.metrics import why_absent
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of

METHOD = "logistic"
FEWEST_OF_CLASS = 5
"""Below so many units of a class among those drawn, a slope and a shift a class are guesses."""

SHARE, MOST = 0.2, 100
"""How many recalibrate where nobody says how many: a fifth of the participants, and no more than this."""

OF_PROBABILITIES = ("log_loss", "brier", "expected_calibration_error")


def measure_gap(
    away: Predictions, home: Predictions, classes: Sequence[str], *, replicates: int, seed: int
) -> dict[str, Estimate]:
    """Give every metric away minus at home, from independent draws of both cohorts; below 0: lost on the way.

    (Of log_loss, brier, ordinal_error and expected_calibration_error, which are better small, above 0 is the loss.)
    """
    drawn = [
        draw_replicates(part.participant, replicates=replicates, seed=one)
        for part, one in zip((away, home), np.random.SeedSequence(seed).generate_state(2).tolist(), strict=True)
    ]
    there, here = (replicate_metrics(part, draws, classes) for part, draws in zip((away, home), drawn, strict=True))
    few = why_too_few(away, classes) or why_too_few(home, classes)
    return {name: summarise(there[name] - here[name], _why(name, away, home, classes), few) for name in there}


def _why(name: str, away: Predictions, home: Predictions, classes: Sequence[str]) -> str:
    there = why_absent(name, away.label, classes)
    at_home = why_absent(name, home.label, classes)
    return f"there: {there}" if there != at_home else there


def draw_people(participant: Shaped[np.ndarray, " n"], asked: int | None, *, seed: int) -> Shaped[np.ndarray, " drawn"]:
    """Draw participants to recalibrate on, without replacement. asked None: SHARE of them, at most MOST."""
    people = np.unique(participant)
    count = min(int(SHARE * len(people)), MOST) if asked is None else asked
    return np.sort(np.random.default_rng(seed).choice(people, size=count, replace=False))


def why_not_recalibrated(drawn: Predictions, classes: Sequence[str]) -> str:
    """Say why these participants cannot recalibrate a run; "" where they can."""
    if not classes:
        return "numbers are judged as the run predicts them"
    counts = np.bincount(drawn.label.astype(np.int64), minlength=len(classes))
    few = [f"{count} of {name}" for name, count in zip(classes, counts, strict=True) if count < FEWEST_OF_CLASS]
    who = f"of {len(np.unique(drawn.participant))} participants drawn there are {', '.join(few)}"
    return f"{who}; a class needs {FEWEST_OF_CLASS}" if few else ""


def recalibrate(drawn: Mapping[str, Predictions], *, seed: int) -> Calibrator:
    """Fit one slope and a shift a class on raw predictions of some people; stated at their own class shares."""
    people = judged_of(drawn)
    counts = np.bincount(people.label, minlength=people.logits.shape[1]) + 0.5
    return choose_calibrator(METHOD, drawn, tuple((counts / counts.sum()).tolist()), seed=seed).calibrator


def compare_calibration(
    before: Mapping[str, Predictions],
    after: Mapping[str, Predictions],
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Judge shown probabilities and recalibrated ones on the same people: both, their difference, and the reports.

    difference: after minus before, paired; below 0: recalibrating helped.
    """
    people, again = judged_of(before), judged_of(after)
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    (own, values), (told, new) = (measure(part, drawn, classes) for part in (people, again))
    few = why_too_few(people, classes)
    reports = report_levels(after, None, classes, replicates=replicates, seed=seed)
    return {
        "before": {name: own[name] for name in OF_PROBABILITIES},
        "after": {name: told[name] for name in OF_PROBABILITIES},
        "difference": {name: summarise(new[name] - values[name], "undefined", few) for name in OF_PROBABILITIES},
        "levels": reports,
    }
