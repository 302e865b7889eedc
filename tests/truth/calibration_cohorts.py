"""Cohorts whose class probabilities are known: a head is fitted as ``classify probe`` does, and meets new people.

``python tests/truth/run.py --long calibration_cohorts`` prints for each head, cohort and task how the shown
probabilities of 4,000 new people compare with what they are (observed/expected and slope of each class, log-loss
against saying the prevalence to everybody), and for how many the default of ``classify predict`` abstains. Means over
as many cohorts as settle it (see is_settled); tests/truth/test_truth_calibration.py is the quick form.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "classify"))
from classify_study import space
from kept_results import Kept, TimeIsUpError

from classify.cohort.table import Cohort
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.evaluating.predict_split import hold_out
from classify.features.table import FeatureChoice, FeatureTable, table_of
from classify.fitting.model import fit_model
from classify.fitting.source import FeatureSource
from classify.heads import find_head
from classify.judging.calibrate import choose_calibrator, log_loss
from classify.judging.calibration_report import recalibrate
from classify.judging.prevalence import state_prevalence
from classify.predict import ABSTAIN_BELOW
from classify.run.predictions import Predictions
from classify.search.search import SearchPlan, choose_model

AI_READI = {"train": (290, 162, 233, 58), "val": (40, 40, 40, 39)}
"""Participants of each study group in the published splits (val is designed to be nearly balanced)."""

FRESH = 4000
SCANS, CHANNELS, TOKENS = 2, 32, 4
HEADS = ("dummy", "linear", "ordinal", "tokens-linear", "knn", "lgbm", "forest", "mlp", "attentive", "mil")
CALIBRATED = ("healthy-vs-rest", "insulin-vs-rest", "four-class")
COHORTS = ("straight", "heavy", "curved")
"""straight: normal, the group moves the mean. heavy: the same with Student's t of 3 degrees. curved: the group also
changes a correlation and a spread, the middle groups share a channel, and every other channel is bent (sinh)."""
EFFECT = 0.6
FAINT = {"weak": 0.2, "nothing": 0.0}
"""Straight cohorts in which there is little or nothing to know: may the shown probabilities lose to the prevalence?"""
FAST = ("dummy", "linear", "ordinal", "tokens-linear", "knn", "lgbm")
FEWEST, MOST = {True: 10, False: 5}, {True: 40, False: 10}
"""Cohorts of a line, by whether the head is FAST. One cohort's slope of a rare class varies by 0.3, and a seed's people
are the same for all heads: ten seeds once made four heads look too timid that are not."""


@dataclass(frozen=True)
class Shown:
    """Calibration of one head on new people at the stated prevalence.

    ratio (observed/expected), slope: of each class. loss, constant: log-loss, shown and of the prevalence alone.
    answered: share whose likeliest class reaches the default of classify predict; right: share of these (and of all).
    """

    method: str
    ratio: tuple[float, ...]
    slope: tuple[float, ...]
    loss: float
    constant: float
    auroc: float
    answered: float
    right: tuple[float, float]
    fresh: Predictions | None = None


def draw(
    groups: Sequence[int], rng: np.random.Generator, *, effect: float, task: str, cohort: str = "straight"
) -> FeatureSource:
    """Draw people of each study group, two scans each; their group shows in a few of the channels (see COHORTS)."""
    group = np.repeat(np.arange(4), groups)

    def noise(people: int) -> np.ndarray:
        size = (people, CHANNELS)
        return rng.standard_t(3, size) / np.sqrt(3) if cohort == "heavy" else rng.standard_normal(size)

    person = noise(len(group))
    step = effect * (group - 1.5)
    if cohort == "curved":
        person[:, 0] += 0.8 * step
        person[:, 5] = np.tanh(1.2 * step) * person[:, 4] + np.sqrt(1 - np.tanh(1.2 * step) ** 2) * person[:, 5]
        person[:, 6] *= np.exp(0.5 * step)
        person[:, 7] += effect * np.isin(group, (1, 2))
        person[:, 1::2] = np.sinh(person[:, 1::2])
    else:
        person[:, :3] += step[:, None] * np.array([1.0, 0.6, 0.3])
        person[:, 3] += effect * (group == 2)
    rows = np.repeat(np.arange(len(group)), SCANS)
    vectors = (person[rows] + 0.7 * noise(len(rows))).astype(np.float32)
    chosen = TASKS[task]
    label = np.array([chosen.class_of[name] for name in STUDY_GROUPS])[group]
    table = pd.DataFrame(
        {
            "volume": [f"v{number:07d}" for number in range(len(rows))],
            "participant": np.array([f"{number:06d}" for number in range(len(group))])[rows],
            "eye": np.tile(["L", "R"], len(group)),
            "device": "d",
            "protocol": "p",
            "site": "UW",
            "age": 60.0,
            "label": label[rows].astype(np.int64),
            "split": "train",
        }
    )
    stored = np.stack([np.stack([vectors, vectors], 1)] * 2, 1)
    tokens = rng.normal(size=(len(rows), TOKENS, CHANNELS)).astype(np.float32)
    tokens[:, 1] = vectors  # one token knows, the others are noise

    def read_tokens(cohort: Cohort, choice: FeatureChoice) -> FeatureTable:
        names = tuple(f"{choice.layer}/d0h0w{place}/{c:03d}" for place in range(TOKENS) for c in range(CHANNELS))
        return table_of(
            cohort, tokens[cohort.position].reshape(len(cohort.position), -1), names, space(), tokens=TOKENS
        )

    cohort_of = Cohort(table, np.arange(len(rows), dtype=np.int64), chosen, True)
    return FeatureSource(cohort_of, stored, space(), read_tokens)


def meet_new_people(
    head: str, task: str, seed: int, *, cohort: str = "straight", effect: float = EFFECT, asked: str = "auto"
) -> Shown:
    """Fit and calibrate a head on a cohort like AI-READI's train, and show new people their probabilities."""
    rng = np.random.default_rng(seed)
    train = draw(AI_READI["train"], rng, effect=effect, task=task, cohort=cohort)
    shares = np.array(AI_READI["train"]) / sum(AI_READI["train"])
    new = draw(rng.multinomial(FRESH, shares).tolist(), rng, effect=effect, task=task, cohort=cohort)
    classes = len(train.cohort.task.classes)
    grid = (1, 1, TOKENS) if find_head(head).reads_tokens else None
    plan = SearchPlan(head, seed=seed, token_grid=grid)
    spec = choose_model(plan, train, runs=Path(), facts={}, tell=lambda _: None).spec
    rows = train.table(spec.features)
    model = fit_model(spec, rows, classes=classes, seed=seed)
    held_out = {"participant": hold_out(model, rows, train.cohort, seed=seed)["participant"]}
    prevalence = state_prevalence(None, train.cohort)
    found = choose_calibrator(asked, held_out, prevalence.shares, seed=seed).calibrator
    people = found.apply(model.predict(new.table(spec.features), classes=classes, split="train")["participant"])
    ratio, slope, auroc = zip(*(judge_class(people, number) for number in range(classes)), strict=True)
    constant = np.tile(prevalence.shares, (len(people.label), 1))
    sure = (people.probability.max(axis=1) >= ABSTAIN_BELOW) & (not found.why_constant)
    right = people.probability.argmax(axis=1) == people.label
    return Shown(
        found.method, ratio, slope, log_loss(people.probability, people), log_loss(constant, people),
        float(np.mean(auroc)), float(sure.mean()),
        (float(right[sure].mean()) if sure.any() else np.nan, float(right.mean())), people,
    )  # fmt: skip


def judge_class(people: Predictions, number: int) -> tuple[float, float, float]:
    """Return observed/expected, slope and AUROC of one class against the rest."""
    from sklearn.metrics import roc_auc_score

    positive, said = people.label == number, people.probability[:, number]
    slope = np.nan if np.ptp(said) < 1e-9 else recalibrate(positive, said, np.ones((len(said), 1)))[1][0]
    return float(positive.sum() / said.sum()), float(slope), float(roc_auc_score(positive, people.scores[:, number]))


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table. Seeds are those that no choice of the method has seen."""
    yield (
        "| head | cohorts | task | AUROC | observed/expected | slope ± standard error "
        "| log-loss - constant: mean, worst | answered, right of them (of all) | methods |"
    )
    yield "|---" * 9 + "|"
    for head, cohort, task in product(HEADS, (*COHORTS, *FAINT), CALIBRATED):
        if kept.wants(f"{head}, {cohort}, {task}"):
            found: list[Shown] = []
            try:
                while len(found) < (MOST[head in FAST] if long else 2) and not is_settled(found, head, cohort):
                    measure = partial(_study, head, task, len(found), cohort)
                    found.append(Shown(**kept.of(f"{head}, {cohort}, {task}, {len(found)}", measure)))
            except TimeIsUpError:
                if found:
                    yield f"| {head} | {len(found)} {cohort} | {task} | {line_of(found)} |"
                raise
            yield f"| {head} | {len(found)} {cohort} | {task} | {line_of(found)} |"


def is_settled(found: Sequence[Shown], head: str, cohort: str) -> bool:
    """Say whether more cohorts would not change what a line says.

    Each ratio and slope lies inside of 0.9 to 1.1 by two standard errors; what lies outside is measured to the end. Of
    FAINT cohorts the losses count alone, and of a cohort in which everybody is shown the same, the ratios.
    """
    if len(found) < FEWEST[head in FAST]:
        return False
    values = np.array([one.ratio + one.slope for one in found])
    values = values[:, np.isfinite(values).sum(axis=0) > 1]
    error = np.nanstd(values, axis=0, ddof=1) / np.isfinite(values).sum(axis=0) ** 0.5
    return cohort in FAINT or bool((np.abs(np.nanmean(values, axis=0) - 1) + 2 * error <= 0.1).all())


def _study(head: str, task: str, seed: int, cohort: str) -> dict[str, Any]:
    found = vars(meet_new_people(head, task, seed, cohort=cohort, effect=FAINT.get(cohort, EFFECT)))
    return {name: value for name, value in found.items() if name != "fresh"}


def line_of(found: Sequence[Shown]) -> str:
    """Return the cells of one line of the table; observed/expected and slope by class, means over the cohorts."""
    gap = [one.loss - one.constant for one in found]
    counts = Counter(one.method for one in found)
    answered = np.mean([one.answered for one in found])
    of_them, of_all = (_mean([one.right[place] for one in found]) for place in (0, 1))
    return " | ".join(
        [
            f"{np.mean([one.auroc for one in found]):.2f}",
            ", ".join(_mean(of_class) for of_class in zip(*(one.ratio for one in found), strict=True)),
            ", ".join(_mean(of_class, error=True) for of_class in zip(*(one.slope for one in found), strict=True)),
            f"{np.mean(gap):+.3f}, {max(gap):+.4f}",
            f"{answered:.0%}, {of_them} ({of_all})",
            ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
        ]
    )


def _mean(values: Sequence[float], *, error: bool = False) -> str:
    """Return the mean of those that there are: a slope is none where everybody has the same probability."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "none"
    return f"{np.mean(known):.2f}" + (
        f" ± {np.std(known, ddof=1) / len(known) ** 0.5:.2f}" if error and known[1:] else ""
    )
