"""P5: the linear probe's 13 strengths x 5 grouped folds at once, against scikit-learn fit by fit.

Both sides get the same standardised folds; features are random, with a signal in a few directions and a spectrum
that falls as that of embeddings does. Equal tolerance: probabilities of held-out rows within 1e-4 of the optimum, which
is found by the same solver at a thousandth of its tolerance and agreed to by every peer. scikit-learn's own default
(tol 1e-4) is up to 0.2 away at C = 10, so each of its solvers runs at the largest power of ten that gets there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn
from sklearn.linear_model import LogisticRegression

from classify.features.table import FeatureTable
from classify.heads.contract import TrainingRows
from classify.heads.linear import LinearHead
from classify.search.folds import Fold, head_weights, make_folds
from classify.search.spaces import GRIDS

CLASSES, VOLUMES_A_PERSON = 4, 4
PROBABILITY_TOLERANCE = 1e-4
CANDIDATES = GRIDS["linear"]

Probabilities = list[list[np.ndarray]]
"""[fold][strength] of the held-out rows"""


@dataclass(frozen=True)
class Peer:
    """A solver of scikit-learn, warm along the strengths as LogisticRegressionCV starts it."""

    solver: str
    dtype: type
    tol: float
    words: str

    def grid(self, parts: Sequence[TrainingRows], held: Sequence[np.ndarray]) -> Probabilities:
        return [self._path(part, rows) for part, rows in zip(parts, held, strict=True)]

    def _path(self, part: TrainingRows, held: np.ndarray) -> list[np.ndarray]:
        model = LogisticRegression(solver=self.solver, tol=self.tol, max_iter=100_000, warm_start=True)
        x, found = part.x.astype(self.dtype), []
        for candidate in CANDIDATES:
            model.set_params(**candidate).fit(x, part.y, sample_weight=part.weights)
            found.append(model.predict_proba(held.astype(self.dtype)))
        return found


FASTEST = Peer(
    "newton-cg", np.float32, 1e-7, "scikit-learn newton-cg, float32, tol 1e-7, warm starts: its fastest here"
)
USUAL = Peer("lbfgs", np.float64, 1e-8, "scikit-learn lbfgs, float64, tol 1e-8, warm starts, as LogisticRegressionCV")
LARGE = Peer("newton-cg", np.float32, 1e-6, "scikit-learn newton-cg, float32, tol 1e-6, warm starts: its fastest here")


def measure(settings: Settings) -> list[Row]:
    if settings.quick:
        return [_row(make_folds(random_table(200, 32), seed=0), 200, 32, FASTEST, Goal(ratio=6.0), rounds=1)]
    small = make_folds(random_table(2000, 768), seed=0)
    large = make_folds(random_table(25_000, 768), seed=0)
    large = large if settings.full else large[:1]
    return [
        _row(small, 2000, 768, FASTEST, Goal(ratio=6.0), rounds=3),
        _row(small, 2000, 768, USUAL, Goal(ratio=6.0), rounds=3),
        _row(large, 25_000, 768, LARGE, Goal(ratio=4.0), rounds=1),
    ]


def _row(folds: Sequence[Fold], volumes: int, width: int, peer: Peer, goal: Goal, *, rounds: int) -> Row:
    parts = [
        TrainingRows(fold.fit.rows.x, fold.fit.rows.y, head_weights("linear", fold.fit.rows), fold.fit.rows.participant)
        for fold in folds
    ]
    held = [fold.held.x for fold in folds]
    timed = in_turn(
        partial(our_grid, parts, held),
        partial(peer.grid, parts, held),
        rounds=rounds,
        agree=partial(_near_the_optimum, our_grid(parts, held, tol=2e-10)),
        warm_up=rounds > 1,
    )
    work = f"linear probe, {len(CANDIDATES)} strengths x {len(folds)} grouped folds, {volumes} x {width}, random"
    return time_row(timed, id="P5", work=work, peer=peer.words, goal=goal)


def our_grid(parts: Sequence[TrainingRows], held: Sequence[np.ndarray], **settings: float) -> Probabilities:
    """Fit and predict as classify.search does for a grid."""
    fitted = LinearHead.fit_grid(parts, [{**candidate, **settings} for candidate in CANDIDATES], random_state=0)
    return [[head.predict_proba(rows) for head in heads] for heads, rows in zip(fitted, held, strict=True)]


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


def _near_the_optimum(optimum: Probabilities, ours: Probabilities, peer: Probabilities) -> str:
    mine, theirs = _largest_gap(optimum, ours), _largest_gap(optimum, peer)
    assert max(mine, theirs) <= PROBABILITY_TOLERANCE, f"probabilities are {mine} and {theirs} from the optimum"
    return f"probabilities within {mine:.1e} (ours) and {theirs:.1e} (peer) of the optimum"


def _largest_gap(one: Probabilities, other: Probabilities) -> float:
    return max(
        float(np.abs(mine - theirs).max())
        for fold, same_fold in zip(one, other, strict=True)
        for mine, theirs in zip(fold, same_fold, strict=True)
    )
