"""Cohorts of known truth, in numbers alone, and how often the claims of the pages are false in them.

``python tests/truth/claims_cohorts.py --studies 100`` prints the table of docs/evaluation.md (the long form).
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from classify.baselines import choose_baselines, predict_baselines
from classify.cohort.table import BRIGHTNESS
from classify.judging.bootstrap import draw_replicates, replicate_metrics
from classify.judging.rivals import compare_with_rivals, hardest_rival
from classify.leaderboard import Entry, rank_entries
from classify.predictions import Predictions

CLASSES = ("no", "yes")
METRIC = "balanced_accuracy"
PEOPLE = 480
TRAIN = 320
DEVICES = np.array(["a/p", "b/q", "c/r"])
KINDS = ("age curve", "brightness", "device", "frame count", "retina")
"""What the embedding knows and the label hangs on; only of the last does it know more than a baseline may."""


def said(score: np.ndarray, label: np.ndarray, person: np.ndarray) -> Predictions:
    """A model that says yes with the logistic of a score."""
    logits = np.column_stack([np.zeros(len(score)), score]).astype(np.float64)
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    unit = np.array([f"{number:05d}" for number in range(len(score))])
    return Predictions("model", "participant", "val", unit, person, label.astype(np.int64), logits, probability)


def study(kind: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """One line a participant with all covariates, and an embedding that knows the one (curved, too) with noise."""
    rng = np.random.default_rng(seed)
    age, bright, retina = rng.normal(size=(3, PEOPLE))
    device, frames = rng.integers(0, 3, PEOPLE), rng.choice([19.0, 61.0, 97.0, 128.0], PEOPLE)
    known, effect = {
        "age curve": (age, 1.8 * (np.abs(age) - 0.8)),
        "brightness": (bright, 1.5 * bright),
        "device": (device - 1.0, 1.5 * (device == 1) - 0.5),
        "frame count": ((frames - 76) / 40, 1.5 * (frames > 80) - 0.75),
        "retina": (retina, 1.5 * retina),
    }[kind]
    label = (rng.random(PEOPLE) < 1 / (1 + np.exp(-effect))).astype(np.int64)
    table = pd.DataFrame(
        {
            "participant": [f"{number:04d}" for number in range(PEOPLE)],
            "site": np.array(["UW", "UAB"])[rng.integers(0, 2, PEOPLE)],
            "age": 60 + 10 * age,
            "label": label,
            "protocols": DEVICES[device],
            "frames": frames,
            "scans": 4.0,
            **{name: bright + rng.normal(0, 0.1, PEOPLE) for name in BRIGHTNESS},
        }
    )
    seen = known[:, None] + rng.normal(0, 0.2, (PEOPLE, 4))
    x = np.hstack([seen, np.abs(seen), seen**2, rng.normal(size=(PEOPLE, 12))])
    return table, x


def claims_better(kind: str, seed: int, replicates: int = 500) -> bool:
    """Fit a head on the embedding, and ask whether the page would call it better than every baseline."""
    table, x = study(kind, seed)
    train, judged = table[:TRAIN], table[TRAIN:].reset_index(drop=True)
    head = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced").fit(x[:TRAIN], train["label"])
    people = judged["participant"].to_numpy(str)
    label = judged["label"].to_numpy(np.int64)
    ours = said(head.decision_function(x[TRAIN:]), label, people)
    names, _ = choose_baselines(train, judged)
    others = predict_baselines(train, judged, classes=2, split="val", names=names)
    drawn = draw_replicates(people, replicates=replicates, seed=seed)
    values = {name: replicate_metrics(part, drawn, CLASSES) for name, part in others.items()}
    found = compare_with_rivals(replicate_metrics(ours, drawn, CLASSES), values, ours, CLASSES)
    rival = hardest_rival(found, METRIC)
    return rival is not None and bool(found[rival][METRIC]["low"] > 0)


def claims_worse(models: int, seed: int, *, volumes: int = 1, replicates: int = 500, people: int = 159) -> bool:
    """Rank equal models, and ask whether the board calls any of them worse than the best."""
    rng = np.random.default_rng(seed)
    person = np.repeat([f"{number:04d}" for number in range(people)], volumes)
    label = np.repeat(rng.integers(0, 2, people), volumes)
    shared = np.repeat(rng.normal(size=people), volumes) + 0.8 * label
    entries = [
        Entry(f"m{k}", "model", said(shared + rng.normal(0, 0.7, len(person)) - 0.4, label, person), {})
        for k in range(models)
    ]
    board = rank_entries(entries, CLASSES, replicates=replicates, seed=seed + 10_000)
    apart = [(line["difference_to_best"] or {}).get(METRIC, {}) for line in board["lines"]]
    return any(one["simultaneous"]["high"] < 0 for one in apart if "simultaneous" in one)


def share(claim: Callable[[int], bool], studies: int) -> float:
    """Give the share of studies in which a claim is made."""
    return float(np.mean([claim(seed) for seed in range(studies)]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    studies = parser.parse_args().studies
    print("| claim | cohort | share of studies |\n|---|---|---|")
    for kind in KINDS:
        found = share(lambda seed, kind=kind: claims_better(kind, seed), studies)
        print(f"| better than every baseline | label and embedding know: {kind} | {100 * found:.0f} % |", flush=True)
    for volumes, level in ((1, "participants"), (4, "volumes")):
        for models in (3, 6, 12, 20):
            found = share(lambda seed, m=models, v=volumes: claims_worse(m, seed, volumes=v), studies)
            print(f"| some model is worse | {models} equal ones, {level} | {100 * found:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
