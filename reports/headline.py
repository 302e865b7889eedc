"""The finding in words that cannot be misread."""

from collections.abc import Sequence
from dataclasses import dataclass

from classify.judging.bootstrap import caution_few
from reports.runs import PRIMARY_LEVEL, PRIMARY_METRIC, Estimate, FinishedRun, best_by_validation
from reports.tables import units_judged


@dataclass(frozen=True, slots=True)
class Headline:
    """What may be said: one claim, then the sentences that carry it.

    verdict: a key of CLAIMS, or "nothing".
    """

    verdict: str
    claim: str
    sentences: tuple[str, ...]
    run: FinishedRun | None


def make_headline(runs: Sequence[FinishedRun]) -> Headline:
    """Say what the best run by validation shows against age and site.

    The interval of the paired difference decides: only one that excludes 0 supports a claim.
    """
    run = best_by_validation(runs)
    if run is None:
        return Headline("nothing", "No run has a balanced accuracy on validation participants.", (), None)
    own = run.estimate(PRIMARY_LEVEL, "val", PRIMARY_METRIC)
    difference = run.difference(PRIMARY_METRIC)
    few = caution_few(run.record["splits"]["val"]["per_class"]) is not None
    verdict = judge(own, difference, chance=1 / len(run.classes), few=few)
    sentences = (_own_sentence(run, own), _difference_sentence(run, difference), _selection_sentence(runs))
    return Headline(verdict, CLAIMS[verdict], sentences, run)


def judge(own: Estimate, difference: Estimate, *, chance: float, few: bool = False) -> str:
    """Turn the intervals of a run and of its difference to age+site (more is better) into a verdict.

    "better" needs both: a difference above 0, and a run above guessing. A baseline may lie below guessing.
    few: a class has too few participants for intervals that could carry a claim.
    """
    if difference.low is None or difference.high is None or difference.value is None:
        return "not compared"
    if few:
        return "too few"
    if difference.high < 0:
        return "worse"
    if difference.low <= 0:
        return "no difference"
    return "better" if own.low is not None and own.low > chance else "not above guessing"


CLAIMS = {
    "better": "On validation participants, the embedding predicts the label better than age and site do.",
    "worse": "On validation participants, the embedding predicts the label worse than age and site do.",
    "no difference": "No better than age and site can be claimed: the interval of the difference includes 0.",
    "not above guessing": "Nothing can be claimed: the run lies above age and site, but not clearly above guessing.",
    "too few": "Nothing can be claimed: a class has too few validation participants for intervals to be trusted.",
    "not compared": "Nothing can be claimed: there is no interval of the difference to age and site.",
}


def spell(estimate: Estimate, signed: bool = False) -> str:
    """Write an estimate as "0.412 (95 % interval 0.331 to 0.490)", or as "absent (reason)"."""
    if estimate.value is None:
        return f"absent ({estimate.reason})"
    value = number(estimate.value, signed)
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval)"
    return f"{value} (95 % interval {number(estimate.low, signed)} to {number(estimate.high, signed)})"


def number(value: float, signed: bool = False) -> str:
    """Write three decimals with a true minus sign; never "-0.000"."""
    rounded = round(value, 3) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.3f}".replace("-", "−")


def _own_sentence(run: FinishedRun, own: Estimate) -> str:
    n = units_judged(run, PRIMARY_LEVEL, "val")
    chance = number(1 / len(run.classes))
    return (
        f"The best run by validation is {run.model} ({run.id}): balanced accuracy {spell(own)} over {n} validation "
        f"participants and {len(run.classes)} classes; guessing gives {chance}."
    )


def _difference_sentence(run: FinishedRun, difference: Estimate) -> str:
    theirs = run.baseline("age+site", "val", PRIMARY_METRIC)
    return (
        f"A model that knows only age and site reaches {spell(theirs)}. "
        f"The paired difference, run minus age and site, is {spell(difference, signed=True)}."
    )


def _selection_sentence(runs: Sequence[FinishedRun]) -> str:
    chosen = (
        "This run was the only one, and was judged on the validation participants."
        if len(runs) == 1
        else f"It is the best of {len(runs)} runs on the same validation participants: its number is optimistic, "
        "and its interval does not allow for that choice."
    )
    return f"{chosen} Only an evaluation on the locked test split can confirm it."
