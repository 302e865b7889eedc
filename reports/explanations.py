"""The explanation of the best LightGBM or linear run of a study, or the reason why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.features.table import FeatureTable
from classify.fitting.model import load_model
from classify.heads.linear import LinearHead
from classify.run.folder import Run
from embeddings_store.errors import OctProbeError, RunError
from reports.explain import ShapValues, explain_linear, explain_trees, group_shares, load_booster
from reports.pictures import Picture
from reports.runs import FinishedRun, best_by_validation
from reports.shap_pictures import picture_explanation
from reports.shap_values import as_explanation

REPRODUCES_WITHIN = 1e-5
FeaturesOf = Callable[[Run], FeatureTable]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Figures with their values (a shap.Explanation) and the volumes these are of, or why there are none."""

    pictures: tuple[Picture, ...] = ()
    values: Any = None
    volumes: tuple[str, ...] = ()
    absent: str = ""


def explain_study(runs: Sequence[FinishedRun], features_of: FeaturesOf) -> Explanation:
    """Explain the best LightGBM or linear run by validation, on its validation volumes only: test stays locked."""
    if not runs[0].classes:
        return Explanation(absent="SHAP values are drawn for the scores of classes; this target is a number")
    run = best_by_validation(run for run in runs if run.model in EXPLAINERS and not run.stages)
    if run is None:
        return Explanation(absent="no LightGBM or linear run with a validation result is on this page")
    try:
        return _explain(run, features_of(run.run))
    except OctProbeError as error:
        return Explanation(absent=str(error))


def _explain(run: FinishedRun, everything: FeatureTable) -> Explanation:
    table = everything.only("val")
    found, probability = EXPLAINERS[run.model](run, everything.only("train"), table)
    _check_reproduces(run, table, probability)
    outputs = run.classes[-found.values.shape[1] :]  # one score is that of the second class, or of the highest
    if not np.abs(found.values).max() > 0:
        raise RunError("the head uses no feature at all: it gives every volume the same score")
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in group_shares(found, table.names).items())
    about = (
        f"Run {run.id}, {len(table.x)} validation volumes; the parts add up to the score (largest gap "
        f"{found.gap:.1e}); share of all |SHAP| by layer and pool: {shares}."
    )
    explained = as_explanation(found, table.x.astype(np.float64), table.names, outputs)
    of_class = probability if probability.ndim == 2 else np.column_stack([1 - probability, probability])
    surest = int(np.argmax(of_class.max(axis=1)))
    pictures = picture_explanation(explained, surest, about, phantom=run.is_phantom)
    return Explanation(tuple(pictures), explained, tuple(str(name) for name in table.volume))


def _explain_lgbm(run: FinishedRun, _train: FeatureTable, table: FeatureTable) -> tuple[ShapValues, np.ndarray]:
    booster = load_booster(run.folder)
    found = explain_trees(booster, table.x.astype(np.float64))
    if found.values.shape[1] == 1 < len(run.classes) - 1:  # ordered: the head knows the cut points along the one score
        return found, load_model(run.run).head.predict_proba(table.x)
    return found, np.asarray(booster.predict(table.x))


def _explain_linear(run: FinishedRun, train: FeatureTable, table: FeatureTable) -> tuple[ShapValues, np.ndarray]:
    head = load_model(run.run).head
    if not isinstance(head, LinearHead):
        raise RunError(f"run {run.id}: expected a linear head in its model folder, got {type(head).__name__}")
    background = train.x.mean(axis=0, dtype=np.float64)
    return explain_linear(head.coef_, head.intercept_, background, table.x.astype(np.float64)), head.predict_proba(
        table.x
    )


Explain = Callable[[FinishedRun, FeatureTable, FeatureTable], tuple[ShapValues, np.ndarray]]

EXPLAINERS: dict[str, Explain] = {"lgbm": _explain_lgbm, "linear": _explain_linear}
"""By head: SHAP values of the last argument's rows, and its probabilities; before it, what the head was fitted on."""


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
    gap = float(np.abs(columns[rows] - recorded.scores).max())
    if gap > REPRODUCES_WITHIN:
        raise RunError(f"the model on rebuilt features differs from the recorded predictions by {gap:.1e}")
