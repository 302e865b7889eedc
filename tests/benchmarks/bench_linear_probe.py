"""P5: the linear probe's grid of 13 strengths over grouped folds, against scikit-learn in a loop, equal tolerance.

Both sides get the same standardised folds; features are random, with a signal in a few directions and a spectrum
that falls as that of embeddings does.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn
from sklearn.linear_model import LogisticRegression

from classify.features import FeatureTable
from classify.heads.linear import LinearHead
from classify.search.folds import FOLDS, Fold, head_weights, make_folds
from classify.search.spaces import GRIDS

CLASSES, VOLUMES_A_PERSON = 4, 4
PROBABILITY_TOLERANCE = 1e-4
STRENGTHS = tuple(candidate["C"] for candidate in GRIDS["linear"])
GOAL = Goal(ratio=6.0)


def measure(settings: Settings) -> list[Row]:
    volumes, width = (200, 32) if settings.quick else (2000, 768)
    folds = make_folds(random_table(volumes, width), seed=0)
    timed = in_turn(
        partial(our_grid, folds),
        partial(scikit_learn_grid, folds),
        rounds=1 if settings.quick else 3,
        agree=same_probabilities,
    )
    work = f"linear probe, {len(STRENGTHS)} strengths x {FOLDS} grouped folds, {volumes} x {width}, random"
    peer = "scikit-learn LogisticRegression in a loop, equal tolerance"
    return [time_row(timed, id="P5", work=work, peer=peer, goal=GOAL)]


def our_grid(folds: Sequence[Fold]) -> list[np.ndarray]:
    """Fit and predict as classify.search does for every candidate."""
    return [_our_probability(strength, fold) for strength in STRENGTHS for fold in folds]


def scikit_learn_grid(folds: Sequence[Fold]) -> list[np.ndarray]:
    return [_scikit_learn_probability(strength, fold) for strength in STRENGTHS for fold in folds]


def random_table(volumes: int, width: int) -> FeatureTable:
    rng = np.random.default_rng(0)
    people = np.arange(volumes) // VOLUMES_A_PERSON
    label = (people % CLASSES).astype(np.int64)
    scale = 1 / np.sqrt(1 + np.arange(width))
    latent = rng.normal(size=(volumes, width)) * scale
    latent[:, :8] += 0.35 * scale[:8] * label[:, None]
    mixing = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return FeatureTable(
        x=(latent @ mixing).astype(np.float32),
        y=label,
        volume=np.array([f"{number:016x}" for number in range(volumes)]),
        participant=np.array([f"{1000 + person}" for person in people]),
        eye=np.where(np.arange(volumes) % 2 == 0, "L", "R"),
        protocol=np.full(volumes, "spectralis_ppol_mac_hr"),
        split=np.full(volumes, "train"),
        names=tuple(f"last/mean/{channel:03d}" for channel in range(width)),
        space="0" * 16,
    )


def same_probabilities(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> str:
    deviation = max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(ours, peer, strict=True))
    assert deviation <= PROBABILITY_TOLERANCE, f"probabilities differ by {deviation}"
    return f"probabilities equal to {deviation:.1e}"


def _our_probability(strength: float, fold: Fold) -> np.ndarray:
    head = LinearHead(C=strength)
    head.fit(fold.fit.x, fold.fit.y, head_weights("linear", fold.fit), fold.fit.participant)
    return head.predict_proba(fold.held.x)


def _scikit_learn_probability(strength: float, fold: Fold) -> np.ndarray:
    model = LogisticRegression(C=strength, max_iter=LinearHead().max_iter, tol=LinearHead().tol)
    model.fit(fold.fit.x, fold.fit.y, sample_weight=head_weights("linear", fold.fit))
    probability: np.ndarray = model.predict_proba(fold.held.x)
    return probability
