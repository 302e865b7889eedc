"""The finding in words that cannot be misread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from classify.judging.kinds import sign_of
from classify.run.estimate import Estimate
from reports.runs import FinishedRun, best_by_validation, caution_of_run
from reports.tables import title_of, units_judged


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
    """Say what the best run by validation shows against every baseline that stands beside it.

    "Better" needs the interval of the difference to each of them above 0, by both metrics of the headline; the
    one that reaches lowest is named. That the run was chosen among several widens the intervals (Bonferroni).
    """
    run = best_by_validation(runs)
    if run is None:
        return Headline("nothing", "No run has a result on validation.", (), None)
    own = run.estimate(run.level, "val", run.primary)
    rivals = {name: widen(found, len(runs)) for name, found in run.rivals(run.primary).items()}
    rival = hardest(rivals)
    few = caution_of_run(run, "val") is not None
    verdict = judge(own, rivals[rival], chance=chance_of(run), few=few)
    ranking = {name: widen(found, len(runs)) for name, found in run.rivals(run.ranking).items()}
    verdict = confirm(verdict, ranking, sign_of(run.ranking))
    sentences = (
        _own_sentence(run, own),
        _difference_sentence(run, rival, rivals),
        *_missing_sentence(run),
        _selection_sentence(runs),
    )
    claim = TOO_FEW_OF_NUMBER if verdict == "too few" and run.task.is_number else CLAIMS[verdict]
    words = {"rival": rival, "units": run.units, "first": title_of(run.primary), "second": title_of(run.ranking)}
    return Headline(verdict, claim.format(**words), sentences, run)


def hardest(rivals: Mapping[str, Estimate]) -> str:
    """Name the baseline that shows the run worse, else the one whose difference reaches lowest."""
    return min(rivals, key=lambda name: _reach(rivals[name]))


def _reach(difference: Estimate) -> tuple[bool, float]:
    if not difference.interval:
        return True, np.inf if difference.value is None else difference.value
    low, high = difference.interval
    return high >= 0, low


def widen(difference: Estimate, chosen_of: int) -> Estimate:
    """Stretch a 95 % interval around its value, so that it holds for the one chosen of so many runs."""
    if difference.value is None or not difference.interval or chosen_of < 2:
        return difference
    normal = NormalDist()
    factor = normal.inv_cdf(1 - 0.025 / chosen_of) / normal.inv_cdf(1 - 0.025)
    low, high = (difference.value + factor * (end - difference.value) for end in difference.interval)
    return Estimate(difference.value, low, high)


def judge(own: Estimate, difference: Estimate, *, chance: float, few: bool = False) -> str:
    """Turn the intervals of a run and of its difference to the hardest baseline (more is better) into a verdict.

    "better" needs both: a difference above 0, and a run above guessing. A baseline may lie below guessing.
    few: a class has too few participants for intervals that could carry a claim.
    """
    if difference.value is None:
        return "not compared"
    if few:
        return "too few"
    if not difference.interval:
        return "not compared"
    if max(difference.interval) < 0:
        return "worse"
    if not difference.is_above():
        return "no difference"
    return "better" if own.is_above(chance) else "not above guessing"


def chance_of(run: FinishedRun) -> float:
    """Return what guessing reaches by the primary metric: one of so many classes, or the mean of everybody."""
    return 1 / len(run.classes) if run.classes else 0.0


def confirm(verdict: str, ranking: Mapping[str, Estimate], sign: float = 1.0) -> str:
    """Keep "better" only where the second metric beats each baseline, too (see is_above_all). sign: -1 of an error."""
    above = all(one.is_above(sign=sign) for one in ranking.values())
    return "one number" if verdict == "better" and not above else verdict


TOO_FEW_OF_NUMBER = "Nothing can be claimed: there are too few validation participants for intervals to be trusted."
CLAIMS = {
    "better": "On validation {units}, the embedding predicts the label better than every baseline of this run; "
    "the hardest was {rival}.",
    "worse": "On validation {units}, the embedding predicts the label worse than {rival} does.",
    "no difference": "Not shown that the embedding adds anything: the interval of the difference to the hardest "
    "baseline includes 0.",
    "one number": "Not shown that the embedding adds anything: {first} is better than that of every baseline, "
    "but {second} is not.",
    "not above guessing": "Nothing can be claimed: the run lies above the baselines, but not clearly above guessing.",
    "too few": "Nothing can be claimed: a class has too few validation participants for intervals to be trusted.",
    "not compared": "Nothing can be claimed: there is no interval of the difference to a baseline.",
}


def spell(estimate: Estimate, signed: bool = False) -> str:
    """Write an estimate as "0.412 (95 % interval 0.331 to 0.490)", or as "absent (reason)"."""
    if estimate.value is None:
        return f"absent ({estimate.absent})"
    ends = " to ".join(number(end, signed) for end in estimate.interval)
    return f"{number(estimate.value, signed)} ({f'95 % interval {ends}' if ends else estimate.reason})"


def number(value: float, signed: bool = False) -> str:
    """Write three decimals with a true minus sign; never "-0.000"."""
    rounded = round(value, 3) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.3f}".replace("-", "−")


def _own_sentence(run: FinishedRun, own: Estimate) -> str:
    n = units_judged(run, run.level, "val")
    among = f" and {len(run.classes)} classes" if run.classes else ""
    return (
        f"The best run by validation is {run.model} ({run.id}): {title_of(run.primary)} {spell(own)} over {n} "
        f"validation {run.units}{among}; guessing gives {number(chance_of(run))}."
    )


def _difference_sentence(run: FinishedRun, rival: str, rivals: Mapping[str, Estimate]) -> str:
    theirs = run.baseline(rival, "val", run.primary)
    others = ", ".join(name for name in rivals if name != rival)
    compared = f"compared with {len(rivals)} baselines ({rival}, {others})" if others else "no other was compared"
    return (
        f"The baseline that is hardest to beat is {rival}, which does not use the embedding: it reaches "
        f"{spell(theirs)}. "
        f"The paired difference, run minus {rival}, is {spell(rivals[rival], signed=True)}; {compared}."
    )


def _missing_sentence(run: FinishedRun) -> list[str]:
    """Name the baselines that could not be made: what they would have reached, nobody knows."""
    found = "; ".join(f"{name}: {reason}" for name, reason in run.missing())
    notes = [step for step in run.record.cohort.flow if step["step"] == "age missing"]
    said = [f"Baselines that are absent, so that nothing is claimed about them: {found}."] if found else []
    people = run.record.cohort.splits
    total = sum(int(people[split]["participants"]) for split in people)
    if notes and run.covariates in run.record.judged.baselines:
        known = total - int(notes[0]["participants"])
        said.append(
            f"Age is known for {known} of {total} participants; the others were given the mean age of train, and a "
            f"mark that theirs is missing."
        )
    return said


def _selection_sentence(runs: Sequence[FinishedRun]) -> str:
    chosen = (
        f"This run was the only one, and was judged on the validation {runs[0].units}."
        if len(runs) == 1
        else f"It is the best of {len(runs)} runs on the same validation {runs[0].units}, so its number is optimistic. "
        f"The interval of the difference is widened to allow for that choice; the interval of the number itself is not."
    )
    return f"{chosen} Only an evaluation on the locked test split can confirm it."
