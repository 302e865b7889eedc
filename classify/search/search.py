"""Choose a head's parameters by participant-grouped, stratified folds inside train; val and test are never seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.aggregate import aggregate_levels, predict_volumes
from classify.features import FeatureTable
from classify.heads import HEADS
from classify.judging.metrics import all_metrics
from classify.predictions import Predictions
from classify.search.folds import FOLDS, Fold, head_weights, make_folds
from classify.search.spaces import GRIDS, SPACES, Range
from embeddings_store.errors import UsageError

METRIC = "macro_auroc"
"""Of participants, predictions of all folds together. Finer than balanced accuracy: every pair of participants counts,
so two candidates rarely tie, and no decision threshold is tuned by accident."""

JOURNAL = "search.journal"


@dataclass(frozen=True)
class SearchResult:
    """What was tried, and the parameters that did best."""

    parameters: dict[str, Any]
    record: dict[str, Any]


def search_head(
    model: str, train: FeatureTable, *, classes: int, trials: int, seed: int, folder: Path
) -> SearchResult | None:
    """Search the space of a head by Optuna's TPE, or its grid when trials is 0; None when there is nothing to choose.

    train: raw features of the train split. folder: where Optuna's journal is written.
    Raises: UsageError where trials are asked of a head without parameters.
    """
    if trials and model not in SPACES:
        raise UsageError(f"--trials {trials}: {model} has no parameters to search; leave --trials out")
    if not trials and model not in GRIDS:
        return None
    folds = make_folds(train, seed)
    if trials:
        return _search_tpe(model, folds, classes=classes, trials=trials, seed=seed, folder=folder)
    history = [
        {"parameters": candidate, "value": score_candidate(model, candidate, folds, classes, seed)}
        for candidate in GRIDS[model]
    ]
    return _result("grid", history)


def score_candidate(model: str, parameters: Mapping[str, Any], folds: list[Fold], classes: int, seed: int) -> float:
    """Give METRIC of the participants, each predicted by the fold that did not fit on them."""
    people = [_predict_held(model, parameters, fold, classes, seed) for fold in folds]
    label = np.concatenate([part.label for part in people])
    probability = np.concatenate([part.probability for part in people])
    names = [str(number) for number in range(classes)]
    return float(all_metrics(label, probability, np.ones((len(label), 1)), names)[METRIC][0])


def _predict_held(model: str, parameters: Mapping[str, Any], fold: Fold, classes: int, seed: int) -> Predictions:
    head = HEADS[model](random_state=seed, **parameters)
    head.fit(fold.fit.x, fold.fit.y, head_weights(model, fold.fit), fold.fit.participant)
    volumes = predict_volumes(head, fold.held, classes=classes, model=model, split="train")
    return aggregate_levels(volumes, fold.held.eye)["participant"]


def _search_tpe(model: str, folds: list[Fold], *, classes: int, trials: int, seed: int, folder: Path) -> SearchResult:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    def objective(trial: optuna.Trial) -> float:
        return score_candidate(model, _suggest(trial, SPACES[model]), folds, classes, seed)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), storage=storage)
    study.optimize(objective, n_trials=trials)
    return _result("tpe", [{"parameters": trial.params, "value": trial.value} for trial in study.trials])


def _suggest(trial: Any, space: Mapping[str, Range]) -> dict[str, Any]:
    return {
        name: trial.suggest_int(name, int(low), int(high))
        if kind == "int"
        else trial.suggest_float(name, low, high, log=kind == "log")
        for name, (kind, low, high) in space.items()
    }


def _result(sampler: str, history: list[dict[str, Any]]) -> SearchResult:
    best = max(history, key=lambda tried: tried["value"])
    record = {
        "trials": len(history),
        "best": best,
        "metric": METRIC,
        "sampler": sampler,
        "folds": FOLDS,
        "history": history,
    }
    return SearchResult(best["parameters"], record)
