"""The explanation of the best LightGBM run of a study, or the reason why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from classify.features import FeatureTable
from classify.run import Run
from embeddings_store.errors import OctProbeError, RunError
from reports.explain import explain_trees, load_booster, rank_features
from reports.pictures import Picture, picture_shap
from reports.runs import FinishedRun, best_by_validation

REPRODUCES_WITHIN = 1e-5
FeaturesOf = Callable[[Run], FeatureTable]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A figure, or the reason why there is none."""

    picture: Picture | None
    absent: str = ""


def explain_study(runs: Sequence[FinishedRun], features_of: FeaturesOf) -> Explanation:
    """Explain the best LightGBM run by validation, on its validation volumes only: test stays locked."""
    run = best_by_validation(run for run in runs if run.model == "lgbm")
    if run is None:
        return Explanation(None, "no LightGBM run with a validation result is on this page")
    try:
        return Explanation(_explain(run, features_of(run.run).only("val")))
    except OctProbeError as error:
        return Explanation(None, str(error))


def _explain(run: FinishedRun, table: FeatureTable) -> Picture:
    booster = load_booster(run.folder)
    shap = explain_trees(booster, table.x.astype(np.float64))
    _check_reproduces(run, table, np.asarray(booster.predict(table.x)))
    outputs = run.classes if shap.values.shape[1] == len(run.classes) else run.classes[1:]
    ranked = rank_features(shap, table.x.astype(np.float64), table.names)
    if not ranked:
        raise RunError("the boosted trees use no feature at all: they give every volume the same score")
    return picture_shap(ranked, outputs, len(table.x), run.id, shap.gap, run.is_phantom)


def _check_reproduces(run: FinishedRun, table: FeatureTable, probability: np.ndarray) -> None:
    """Refuse to explain a model on features that do not give the predictions that the run recorded."""
    recorded = run.predictions("volume", "val")
    if recorded is None:
        raise RunError("the run recorded no predictions of validation volumes to check the features against")
    place = {volume: number for number, volume in enumerate(table.volume)}
    rows = [place.get(unit, -1) for unit in recorded.unit]
    columns = probability if probability.ndim == 2 else np.column_stack([1 - probability, probability])
    if len(rows) != len(table.x) or -1 in rows:
        raise RunError("the validation volumes of the store are not those that the run predicted")
    gap = float(np.abs(columns[rows] - recorded.probability).max())
    if gap > REPRODUCES_WITHIN:
        raise RunError(f"the model on rebuilt features differs from the recorded predictions by {gap:.1e}")
