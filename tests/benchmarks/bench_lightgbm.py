"""P6: classify's LightGBM search, 50 trials x 5 grouped folds, against LGBMClassifier through cross_val_score.

Both walk the same space by the same sampler (its seed of each trial included) over the same folds and weights. The peer
is what a user would write: scikit-learn's wrapper with LightGBM's own bins, every trial over every fold. Ours bins each
fold once and coarser, and stops trials that fall behind. One volume a participant, random, with a signal; as many
participants as train has in AI-READI, and the full encoder's width.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from comparison import Goal, Row, time_row
from lightgbm import LGBMClassifier
from settings import Settings
from side_by_side import in_turn
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score

from classify.cohort.table import Cohort
from classify.cohort.tasks import TASKS
from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.aggregate import MEAN_LOGITS
from classify.fitting.source import FeatureSource
from classify.heads.lgbm import LgbmHead
from classify.search.scoring import FoldScorer
from classify.search.spaces import SPACES, SearchSpace
from classify.search.study import Study
from classify.search.trials import TrialBudget, best_of, drawing_of, run_trials
from classify.search.workers import open_folds
from embeddings_store.space import EmbeddingSpace

CLASSES, FOLDS = 4, 5
SEEDS = (0, 1, 2)
"""Each draws participants and walks the space anew: what a search costs depends on where it walks, on either side."""

SPACE = SearchSpace("lgbm", SPACES["lgbm"], ("last",), ("mean",), (MEAN_LOGITS,))
CHOICE = FeatureChoice("last", ("mean",))
WRAPPER_NAMES = {
    "n_estimators": "n_estimators",
    "learning_rate": "learning_rate",
    "num_leaves": "num_leaves",
    "feature_fraction": "colsample_bytree",
    "bagging_fraction": "subsample",
    "lambda_l2": "reg_lambda",
}


@dataclass(frozen=True)
class Drawn:
    """The participants of one seed: those to search on, in folds, and as many to judge by."""

    seed: int
    scorer: FoldScorer
    fresh: FeatureTable

    @property
    def train(self) -> FeatureTable:
        return self.scorer.source.table(CHOICE)


@dataclass(frozen=True)
class Found:
    """The best trial's parameters, how many folds the search fitted, and how long it took."""

    parameters: dict[str, Any]
    folds: int
    seconds: float


def measure(settings: Settings) -> list[Row]:
    participants, width, trials = (80, 16, 4) if settings.quick else (743, 768, 50)
    drawn = [_draw(participants, width, seed) for seed in (SEEDS[:1] if settings.quick else SEEDS)]
    timed = in_turn(
        lambda: [our_search(one, settings.folder, trials) for one in drawn],
        lambda: [scikit_learn_search(one, settings.folder, trials) for one in drawn],
        rounds=1,
        agree=partial(_same_score, drawn),
        warm_up=False,
    )
    size = f"{participants} x {width}, random"
    work = f"{len(drawn)} LightGBM searches of {trials} trials x {FOLDS} grouped folds, {size}"
    return [time_row(timed, id="P6", work=work, peer="LGBMClassifier, cross_val_score a trial", goal=Goal(ratio=5.0))]


def our_search(drawn: Drawn, folder: Path, trials: int) -> Found:
    """Search as classify does."""
    start, study = perf_counter(), Study(_new(folder) / "journal", "search", drawing_of(SPACE, drawn.seed))
    with open_folds(drawn.scorer, 1) as workers:
        tried, _ = run_trials(study, SPACE, workers, TrialBudget(trials))
    return Found(best_of(tried).parameters, sum(len(one.after_folds) for one in tried), perf_counter() - start)


def scikit_learn_search(drawn: Drawn, folder: Path, trials: int) -> Found:
    """Search by the wrapper and cross_val_score."""
    start, table, study = (
        perf_counter(),
        drawn.train,
        Study(_new(folder) / "journal", "search", drawing_of(SPACE, drawn.seed)),
    )
    found: list[tuple[float, dict[str, Any]]] = []
    for number in range(trials):
        trial = study.ask(number)
        model = _wrapper(trial.params, len(table.y) * (1 - 1 / FOLDS), drawn.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wrapper warns of feature names that nobody gave
            scores = cross_val_score(
                model, table.x, table.y, cv=PredefinedSplit(drawn.scorer.fold_of_row), scoring="roc_auc_ovr",
                params={"sample_weight": _weights(table)},
            )  # fmt: skip
        study.end(trial, float(scores.mean()))
        found.append((float(scores.mean()), trial.params))
    return Found(max(found, key=lambda one: one[0])[1], trials * FOLDS, perf_counter() - start)


def _same_score(drawn: Sequence[Drawn], ours: Sequence[Found], peer: Sequence[Found]) -> str:
    """Judge what each search chose, fitted by its own library on all of train, on participants that neither saw."""
    own, others, errors = zip(*map(_fresh_scores, drawn, ours, peer), strict=True)
    for mine, theirs, error in zip(own, others, errors, strict=True):
        assert mine >= theirs - error, f"macro AUROC {mine}, peer's {theirs} +- {error}"
    folds, whole = sum(one.folds for one in ours), sum(one.folds for one in peer)
    return (
        f"each {_listed([one.seconds for one in ours], 0)} s, peer's {_listed([one.seconds for one in peer], 0)} s; "
        f"macro AUROC on as many fresh participants {_listed(own)}, peer's {_listed(others)} "
        f"(standard errors {_listed(errors)}); {folds} of {whole} folds fitted, the others pruned"
    )


def _fresh_scores(drawn: Drawn, ours: Found, peer: Found) -> tuple[float, float, float]:
    """Give ours, the peer's, and the standard error of the peer's."""
    train, fresh, weights = drawn.train, drawn.fresh, _weights(drawn.train)
    head = LgbmHead(random_state=drawn.seed, **ours.parameters).fit(train.x, train.y, weights)
    wrapper = _wrapper(peer.parameters, len(train.y), drawn.seed).fit(train.x, train.y, sample_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = head.predict_proba(fresh.x), np.asarray(wrapper.predict_proba(fresh.x))
    rng = np.random.default_rng(drawn.seed)
    resampled = [rng.integers(0, len(fresh.y), len(fresh.y)) for _ in range(200)]
    error = float(np.std([_auroc(fresh.y[rows], theirs[rows]) for rows in resampled]))
    return _auroc(fresh.y, mine), _auroc(fresh.y, theirs), error


def _listed(numbers: Sequence[float], digits: int = 3) -> str:
    return ", ".join(f"{number:.{digits}f}" for number in numbers)


def _wrapper(parameters: Mapping[str, Any], rows: float, seed: int) -> LGBMClassifier:
    return LGBMClassifier(
        **{theirs: parameters[own] for own, theirs in WRAPPER_NAMES.items()},
        min_child_samples=max(1, round(parameters["min_child_share"] * rows)),
        subsample_freq=1, n_jobs=1, random_state=seed, verbosity=-1,
    )  # fmt: skip


def _weights(table: FeatureTable) -> np.ndarray:
    return np.asarray(len(table.y) / (CLASSES * np.bincount(table.y)[table.y]))


def _draw(participants: int, width: int, seed: int) -> Drawn:
    whole = _random_source(2 * participants, width, seed)
    scorer = FoldScorer(whole.only("train"), classes=CLASSES, seed=seed, folds=FOLDS)
    return Drawn(seed, scorer, whole.only("test").table(CHOICE))


def _random_source(participants: int, width: int, seed: int) -> FeatureSource:
    rng = np.random.default_rng(seed)
    label = (np.arange(participants) % CLASSES).astype(np.int64)
    scale = 1 / np.sqrt(1 + np.arange(width))
    latent = rng.normal(size=(participants, width)) * scale
    latent[:, :8] += 0.35 * scale[:8] * label[:, None]
    vectors = latent @ np.linalg.qr(rng.normal(size=(width, width)))[0]
    table = pd.DataFrame(
        {
            "volume": [f"{number:016x}" for number in range(participants)],
            "participant": [f"{1000 + number}" for number in range(participants)],
            "eye": "L", "device": "heidelberg_spectralis", "protocol": "spectralis_ppol_mac_hr", "site": "1",
            "age": 60.0, "label": label,
            "split": np.repeat(["train", "test"], participants // 2),
        }
    )  # fmt: skip
    space = EmbeddingSpace(
        "random",
        "0" * 64,
        (32, 96, 96),
        (4, 16, 16),
        width,
        4,
        3,
        {"name": "random"},
        ("last",),
        ("mean",),
        None,
        "fp32",
    )
    cohort = Cohort(table, np.arange(participants), TASKS["four-class"], phantom=True)
    return FeatureSource(cohort, vectors.astype(np.float32)[:, None, None, :], space)


def _auroc(label: np.ndarray, probability: np.ndarray) -> float:
    return float(roc_auc_score(label, probability, multi_class="ovr"))


def _new(folder: Path) -> Path:
    return Path(mkdtemp(dir=folder))
