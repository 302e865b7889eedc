"""Cohorts whose class probabilities are known: a head is fitted as ``classify probe`` does, and meets new people.

``python tests/truth/calibration_cohorts.py`` prints, for each head and task, how the shown probabilities of 4,000 new
people compare with what they are: observed/expected and slope of each class, and the log-loss against saying the
prevalence to everybody.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "classify"))
from classify_study import space

from classify.cohort.table import Cohort
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.judging.calibrate import choose_calibrator, log_loss
from classify.judging.calibration_report import recalibrate
from classify.judging.prevalence import state_prevalence
from classify.model import fit_model, predict_held_out
from classify.predictions import Predictions
from classify.search.search import SearchPlan, choose_model
from classify.source import FeatureSource

AI_READI = {"train": (290, 162, 233, 58), "val": (40, 40, 40, 39)}
"""Participants of each study group in the published splits (val is designed to be nearly balanced)."""

FRESH = 4000
SCANS = 2


@dataclass(frozen=True)
class Shown:
    """Calibration of one head on new people at the stated prevalence. ratio, slope: of each class."""

    method: str
    ratio: tuple[float, ...]
    slope: tuple[float, ...]
    loss: float
    constant: float
    auroc: float
    fresh: Predictions


def draw(groups: Sequence[int], rng: np.random.Generator, *, effect: float, channels: int, task: str) -> FeatureSource:
    """Draw people of each study group; a few channels move with the group, scans of a person share what they are."""
    group = np.repeat(np.arange(4), groups)
    split = np.repeat("train", len(group))
    moved = np.zeros((len(group), channels))
    moved[:, :3] = effect * (group[:, None] - 1.5) * np.array([1.0, 0.6, 0.3])
    moved[:, 3] = effect * (group == 2)
    person = moved + rng.normal(0, 1, moved.shape)
    rows = np.repeat(np.arange(len(group)), SCANS)
    vectors = (person[rows] + rng.normal(0, 0.7, (len(rows), channels))).astype(np.float32)
    names = np.array([f"{number:06d}" for number in range(len(group))])[rows]
    chosen = TASKS[task]
    label = np.array([chosen.class_of[name] for name in STUDY_GROUPS])[group]
    table = pd.DataFrame(
        {
            "volume": [f"v{number:07d}" for number in range(len(rows))],
            "participant": names,
            "eye": np.tile(["L", "R"], len(group)),
            "device": "d",
            "protocol": "p",
            "site": "UW",
            "age": 60.0,
            "label": label[rows].astype(np.int64),
            "split": split[rows],
        }
    )
    cohort = Cohort(table, np.arange(len(rows), dtype=np.int64), chosen, True)
    stored = np.stack([np.stack([vectors, vectors], 1)] * 2, 1)
    return FeatureSource(cohort, stored, space(), None)


def meet_new_people(
    head: str, task: str, seed: int, *, effect: float = 0.6, channels: int = 32, fresh: int = FRESH, asked: str = "auto"
) -> Shown:
    """Fit and calibrate a head on a cohort like AI-READI's train, and show new people their probabilities."""
    rng = np.random.default_rng(seed)
    train = draw(AI_READI["train"], rng, effect=effect, channels=channels, task=task)

    shares = np.array(AI_READI["train"]) / sum(AI_READI["train"])
    new = draw(rng.multinomial(fresh, shares).tolist(), rng, effect=effect, channels=channels, task=task)
    classes = len(train.cohort.task.classes)
    chosen = choose_model(SearchPlan(head, seed=seed), train, runs=Path(), facts={}, tell=lambda _: None)
    rows = train.table(chosen.spec.features)
    model = fit_model(chosen.spec, rows, classes=classes, seed=seed)
    held_out = predict_held_out(chosen.spec, rows, classes=classes, seed=seed)
    prevalence = state_prevalence(None, train.cohort)
    found = choose_calibrator(asked, held_out, prevalence.shares, seed=seed).calibrator
    raw = model.predict(new.table(chosen.spec.features), classes=classes, split="train")["participant"]
    people = found.apply(raw)
    judged = [_judge(people, number) for number in range(classes)]
    constant = np.tile(prevalence.shares, (len(people.label), 1))
    ratio, slope, auroc = zip(*judged, strict=True)
    return Shown(
        found.method, ratio, slope, log_loss(people.probability, people), log_loss(constant, people),
        float(np.mean(auroc)), people,
    )  # fmt: skip


def _judge(people: Predictions, number: int) -> tuple[float, float, float]:
    from sklearn.metrics import roc_auc_score

    positive, said = people.label == number, people.probability[:, number]
    slope = np.nan if np.ptp(said) < 1e-9 else recalibrate(positive, said, np.ones((len(said), 1)))[1][0]
    return float(positive.sum() / said.sum()), float(slope), float(roc_auc_score(positive, people.scores[:, number]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--heads", default="linear,ordinal,knn,lgbm,mlp,mil")
    parser.add_argument("--tasks", default="four-class,healthy-vs-rest,insulin-vs-rest")
    parser.add_argument("--effects", default="0.6,0.2,0")
    parser.add_argument("--asked", default="auto")
    options = parser.parse_args()
    print("| head | task | effect | AUROC | methods | observed/expected | slope | log-loss - constant: mean, worst |")
    print("|---|---|---|---|---|---|---|---|")
    for head, task, effect in product(*(one.split(",") for one in (options.heads, options.tasks, options.effects))):
        seeds = range(options.seeds)
        found = [meet_new_people(head, task, seed, effect=float(effect), asked=options.asked) for seed in seeds]
        print(f"| {head} | {task} | {effect} | {line_of(found)} |", flush=True)


def line_of(found: Sequence[Shown]) -> str:
    """Return the cells of one line of the table; observed/expected and slope by class, means over the cohorts."""
    ratio, slope = (np.nanmean([getattr(one, name) for one in found], axis=0) for name in ("ratio", "slope"))
    counts = Counter(one.method for one in found)
    gap = [one.loss - one.constant for one in found]
    return " | ".join(
        [
            f"{np.mean([one.auroc for one in found]):.3f}",
            ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
            ", ".join(f"{x:.2f}" for x in ratio),
            ", ".join(f"{x:.2f}" for x in slope),
            f"{np.mean(gap):+.3f}, {max(gap):+.3f}",
        ]
    )


if __name__ == "__main__":
    main()
