"""The two controls of a map: a model fitted on permuted labels, and channels fed in another order (Adebayo 2018)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64, Shaped

from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, fit_model
from reports.attribution.volume import Controls


def make_controls(model: FittedModel, train: FeatureTable, *, classes: int, seed: int) -> Controls:
    """Fit the model again on permuted labels. train: raw features of the train split, as the model was fitted on."""
    rng = np.random.default_rng(seed)
    permuted = replace(train, y=permute_labels(train.y, train.participant, rng))
    channels = train.x.shape[1]
    return Controls(fit_model(model.spec, permuted, classes=classes, seed=seed), rng.permutation(channels))


def permute_labels(
    label: Int64[np.ndarray, " n"], participant: Shaped[np.ndarray, " n"], rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Deal the labels of participants to participants anew; all scans of a person get the same one."""
    _, first, inverse = np.unique(participant, return_index=True, return_inverse=True)
    return np.asarray(rng.permutation(label[first])[inverse])
