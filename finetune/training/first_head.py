"""What a head begins as: the linear probe of the vectors that the frozen encoder gives, or small random weights.

Fine-tuning from a random head first changes the encoder by gradients that mean nothing; from the probe it begins where
the probe ends (Kumar et al., ICLR 2022).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from classify.errors import CohortError
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, ModelSpec, fit_grid, fit_model
from classify.heads.linear import LinearHead
from classify.on_cores import one_thread
from classify.run.predictions import join_predictions, judged_of
from classify.search.folds import make_folds
from classify.search.scoring import running_score
from classify.search.search import take_sharpest
from classify.search.spaces import GRIDS
from finetune.model.network import VolumeClassifier
from finetune.recipe.config import FinetuneConfig

PROBE = "probe"


def begin_head(
    model: VolumeClassifier,
    config: FinetuneConfig,
    train: FeatureTable,
    classes: int,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    """Let a linear or attentive head begin as the probe of ``train``, raw vectors; others keep what was drawn.

    The attentive pooling begins as the mean, of which the probe learned.
    """
    if config.first_head != PROBE or not isinstance(model.head, nn.Linear):
        return
    try:
        head = fit_probe(train, classes, seed).head
    except CohortError as error:
        tell(f"the head begins with random weights, and not as the probe: {error}")
        return
    assert isinstance(head, LinearHead)  # noqa: S101 - asked for by name
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(head.coef_))
        model.head.bias.copy_(torch.from_numpy(head.intercept_))
    tell(f"the head begins as the linear probe: C {head.C:.3g}, chosen inside train")


def fit_probe(train: FeatureTable, classes: int, seed: int) -> FittedModel:
    """Fit the linear probe that ``classify probe`` would; its strength is chosen by folds of train.

    train: raw vectors. Raises: CohortError.
    """
    if len(np.unique(train.y)) < classes:
        raise CohortError("train lacks a class")
    spec, grid = ModelSpec(LinearHead.name), GRIDS[LinearHead.name]
    with one_thread():
        folds = make_folds(train, seed)
        fitted = fit_grid(spec, [fold.fit for fold in folds], grid, classes=classes, seed=seed)
        parts = [
            [judged_of(model.predict_standardised(fold.held, classes=classes, split="train")) for model in models]
            for fold, models in zip(folds, fitted, strict=True)
        ]
        held_out = [join_predictions([part[number] for part in parts]) for number in range(len(grid))]
        taken = take_sharpest(held_out, [running_score([people]) for people in held_out], seed=seed)
        return fit_model(ModelSpec(LinearHead.name, grid[taken]), train, classes=classes, seed=seed)
