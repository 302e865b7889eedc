"""What may be chosen for each head: ranges for Optuna, and grids that need no search."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Range = tuple[str, float, float]
"""("log" | "linear" | "int", low, high)"""

SPACES: Mapping[str, Mapping[str, Range]] = {
    "linear": {"C": ("log", 1e-6, 1e1)},
    "ordinal": {"C": ("log", 1e-6, 1e1)},
    "knn": {"n_neighbors": ("int", 3.0, 100.0)},
    "lgbm": {
        "n_estimators": ("int", 50.0, 400.0),
        "learning_rate": ("log", 0.01, 0.2),
        "num_leaves": ("int", 3.0, 15.0),
        "min_child_share": ("log", 0.005, 0.1),
        "feature_fraction": ("log", 0.02, 0.5),
        "bagging_fraction": ("linear", 0.4, 1.0),
        "lambda_l2": ("log", 0.1, 100.0),
    },
    "mlp": {
        "dropout": ("linear", 0.0, 0.7),
        "learning_rate": ("log", 1e-4, 1e-2),
        "weight_decay": ("log", 1e-4, 1.0),
    },
}

GRIDS: Mapping[str, list[dict[str, Any]]] = {
    "linear": [{"C": float(strength)} for strength in np.logspace(-5, 1, 13)],
    "ordinal": [{"C": float(strength)} for strength in np.logspace(-5, 1, 7)],
    "knn": [{"n_neighbors": count} for count in (60, 30, 15, 8)],
}
"""Tried without --trials, from the smoothest head on; of equals the first is taken."""
