"""Datasets of known truth: does the interval of a mean difference over datasets hold what it says, for each claim?

Scores of two encoders are drawn for the same people, so that their errors go together. "These datasets": the true
differences are fixed, 0 on some datasets. "Datasets like these": each study draws datasets anew from a population.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from kept_results import Kept

from classify.comparing.over_datasets import mean_difference
from classify.judging.holm import adjust_holm

SIZES = (60, 100, 160, 240, 400)
BETTER = (0.5, 0.5, 0.5, 0.0, 0.0)
NULL = (0.0,) * 5
SIGNAL, SHARED, SPREAD, REPLICATES, ENCODERS = 1.0, 0.7, 0.4, 400, 4


@dataclass(frozen=True)
class Study:
    """Coverage of both claims, and how often each says that A wins, or B."""

    these: float
    like_these: float
    won: float
    won_like: float


def auroc_of(signal: float) -> float:
    """Return the true AUROC of a score whose classes lie so many standard deviations apart."""
    return NormalDist().cdf(signal / np.sqrt(2))


def weighted_auroc(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Give the AUROC of every column of weights; scores have no ties."""
    order = np.argsort(score)
    sorted_label, sorted_weights = label[order], weights[order]
    below = np.cumsum(sorted_weights * (sorted_label == 0)[:, None], axis=0)
    positive = sorted_weights * (sorted_label == 1)[:, None]
    return (positive * below).sum(axis=0) / (positive.sum(axis=0) * below[-1])


def differences(rng: np.random.Generator, people: int, better: float) -> np.ndarray:
    """Give A minus B of one dataset: the estimate, then draws of people."""
    label = (np.arange(people) < people // 3).astype(int)
    shared = rng.normal(size=people)
    scores = [
        SHARED**0.5 * shared + (1 - SHARED) ** 0.5 * rng.normal(size=people) + label * (SIGNAL + more)
        for more in (better, 0.0)
    ]
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=REPLICATES).T
    weights = np.hstack([np.ones((people, 1)), drawn])
    return weighted_auroc(scores[0], label, weights) - weighted_auroc(scores[1], label, weights)


def true_difference(better: float) -> float:
    """Return the difference of the true AUROCs."""
    return auroc_of(SIGNAL + better) - auroc_of(SIGNAL)


def study(truth: tuple[float, ...], draws: int, *, seed: int = 0) -> Study:
    """Judge so many studies of each claim."""
    rng = np.random.default_rng([seed, draws, len(truth)])
    wanted = float(np.mean([true_difference(one) for one in truth]))
    population = np.array([true_difference(one) for one in rng.normal(np.mean(truth), SPREAD, 20_000)]).mean()
    covered, like, won, won_like = 0, 0, 0, 0
    for _ in range(draws):
        these = mean_difference(
            {str(n): differences(rng, p, b) for n, (p, b) in enumerate(zip(SIZES, truth, strict=True))}
        ).these
        sampled = rng.normal(np.mean(truth), SPREAD, len(SIZES))
        others = mean_difference(
            {str(n): differences(rng, p, b) for n, (p, b) in enumerate(zip(SIZES, sampled, strict=True))}
        )
        covered += these.low <= wanted <= these.high
        like += others.like_these.low <= population <= others.like_these.high
        won += these.p < 0.05
        won_like += others.like_these.p < 0.05
    return Study(covered / draws, like / draws, won / draws, won_like / draws)


def measured(truth: tuple[float, ...], draws: int) -> list[float]:
    """Give the four shares of a study, as numbers that JSON knows."""
    return [float(one) for one in vars(study(truth, draws)).values()]


def false_wins(draws: int, *, seed: int = 0) -> float:
    """Return how often any of several encoders that equal the reference is called different, by Holm's p."""
    rng, wrong = np.random.default_rng([seed, draws]), 0
    for _ in range(draws):
        p = {}
        for name in range(ENCODERS):
            found = mean_difference({str(n): differences(rng, people, 0.0) for n, people in enumerate(SIZES)})
            p[str(name)] = found.these.p
        wrong += min(adjust_holm(p).values()) < 0.05
    return wrong / draws


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table of docs/evaluation.md."""
    draws = 3000 if long else 300
    yield "| truth | studies | these datasets | datasets like these | called different | of like these |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, truth in (("A better on three of five", BETTER), ("A and B equal", NULL)):
        if kept.wants(name):
            made = kept.of(f"{name}, {draws}", partial(measured, truth, draws))
            yield f"| {name} | {draws} | {' | '.join(f'{one:.3f}' for one in made)} |"
    name = f"{ENCODERS} encoders equal to the reference"
    if kept.wants(name):
        yield f"| {name} | {draws} | | | {kept.of(f'{name}, {draws}', partial(false_wins, draws)):.3f} | |"
