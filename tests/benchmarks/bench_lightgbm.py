"""P6: classify's LightGBM search, 50 trials x 5 grouped folds, against LGBMClassifier through cross_val_score.

Both walk the same space by the same sampler (its seed of each trial included) over the same folds and weights. The peer
is what a user would write: scikit-learn's wrapper with LightGBM's own bins, every trial over every fold. Ours bins each
fold once and coarser, and stops trials that fall behind. One volume a participant, random, with a signal; as many
participants as train has in AI-READI, and the full encoder's width.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
from comparison import Goal, Row, time_row
from lightgbm import LGBMClassifier
from settings import Settings
from side_by_side import in_turn
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score

from classify.aggregate import MEAN_LOGITS
from classify.cohort.table import Cohort
from classify.cohort.tasks import TASKS
from classify.features import FeatureChoice, FeatureTable
from classify.heads.lgbm import LgbmHead
from classify.search.scoring import FoldScorer
from classify.search.spaces import SPACES, SearchSpace
from classify.search.study import Study
from classify.search.trials import Budget, best_of, run_trials
from classify.search.workers import open_folds
from classify.source import FeatureSource
from embeddings_store.space import EmbeddingSpace

CLASSES, FOLDS, SEED = 4, 5, 0
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
class Found:
    """The best trial's parameters, and the bench's words on the search."""

    parameters: dict[str, Any]
    words: str = ""


def measure(settings: Settings) -> list[Row]:
    participants, width, trials = (80, 16, 12) if settings.quick else (743, 768, 50)
    source, fresh = random_sources(participants, width)
    scorer = FoldScorer(source, classes=CLASSES, seed=SEED, folds=FOLDS)
    timed = in_turn(
        partial(our_search, scorer, settings.folder, trials),
        partial(scikit_learn_search, scorer, settings.folder, trials),
        rounds=1,
        agree=partial(_same_score, source.table(CHOICE), fresh.table(CHOICE)),
        warm_up=False,
    )
    work = f"LightGBM search, {trials} trials x {FOLDS} grouped folds, {participants} x {width}, random"
    return [time_row(timed, id="P6", work=work, peer="LGBMClassifier, cross_val_score a trial", goal=Goal(ratio=5.0))]


def our_search(scorer: FoldScorer, folder: Path, trials: int) -> Found:
    """Search as classify does."""
    study = Study(_new(folder), SPACE, seed=SEED)
    with open_folds(scorer, 1) as predict:
        tried, _ = run_trials(study, SPACE, predict, FOLDS, Budget(trials))
    folds = sum(len(one.after_folds) for one in tried)
    return Found(best_of(tried).parameters, f"{folds} of {trials * FOLDS} folds fitted, the others pruned")


def scikit_learn_search(scorer: FoldScorer, folder: Path, trials: int) -> Found:
    """Search by the wrapper and cross_val_score."""
    table, study = scorer.source.table(CHOICE), Study(_new(folder), SPACE, seed=SEED)
    found: list[tuple[float, dict[str, Any]]] = []
    for number in range(trials):
        trial = study.ask(number)
        model = _wrapper(trial.params, len(table.y) * (1 - 1 / FOLDS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wrapper warns of feature names that nobody gave
            scores = cross_val_score(
                model, table.x, table.y, cv=PredefinedSplit(scorer.fold_of_row), scoring="roc_auc_ovr",
                params={"sample_weight": _weights(table)},
            )  # fmt: skip
        study.tell(trial, float(scores.mean()))
        found.append((float(scores.mean()), trial.params))
    return Found(max(found, key=lambda one: one[0])[1])


def _same_score(train: FeatureTable, fresh: FeatureTable, ours: Found, peer: Found) -> str:
    """Judge what each search chose, fitted by its own library on all of train, on participants that neither saw."""
    head = LgbmHead(random_state=SEED, **ours.parameters).fit(train.x, train.y, _weights(train))
    wrapper = _wrapper(peer.parameters, len(train.y)).fit(train.x, train.y, sample_weight=_weights(train))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = head.predict_proba(fresh.x), wrapper.predict_proba(fresh.x)
    rng = np.random.default_rng(SEED)
    drawn = [rng.integers(0, len(fresh.y), len(fresh.y)) for _ in range(200)]
    error = float(np.std([_auroc(fresh.y[rows], theirs[rows]) for rows in drawn]))
    own, others = _auroc(fresh.y, mine), _auroc(fresh.y, theirs)
    assert own >= others - error, f"macro AUROC {own}, peer's {others} +- {error}"
    said = f"macro AUROC on as many fresh participants {own:.3f}, peer's {others:.3f} (standard error {error:.3f})"
    return f"{said}; {ours.words}"


def _wrapper(parameters: Mapping[str, Any], rows: float) -> LGBMClassifier:
    return LGBMClassifier(
        **{theirs: parameters[own] for own, theirs in WRAPPER_NAMES.items()},
        min_child_samples=max(1, round(parameters["min_child_share"] * rows)),
        subsample_freq=1, n_jobs=1, random_state=SEED, verbosity=-1,
    )  # fmt: skip


def _weights(table: FeatureTable) -> np.ndarray:
    return np.asarray(len(table.y) / (CLASSES * np.bincount(table.y)[table.y]))


def random_sources(participants: int, width: int) -> tuple[FeatureSource, FeatureSource]:
    """Draw participants to search on, and as many to judge by."""
    whole = _random_source(2 * participants, width)
    return whole.only("train"), whole.only("test")


def _random_source(participants: int, width: int) -> FeatureSource:
    rng = np.random.default_rng(SEED)
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
