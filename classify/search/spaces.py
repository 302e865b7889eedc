"""What may be chosen: ranges for Optuna, grids without it, and the layers, pools and aggregations of a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from classify.features.table import FeatureChoice
from classify.fitting.aggregate import LEARNED, MEAN_LOGITS
from classify.fitting.model import ModelSpec, aggregations_of, check_aggregation
from classify.heads import HEADS

AUTO = "auto"

Range = tuple[str, float, float]
"""("log" | "linear" | "int" | "log int", low, high), both ends included."""


@dataclass(frozen=True)
class Among:
    """A few numbers or names to choose among."""

    numbers: tuple[Any, ...]


Values = tuple[str, ...]
"""Names to choose among."""

MIRROR = "mirror"
"""Whether left eyes are mirrored: searched with a head's parameters, and a matter of its features."""

SPACES: Mapping[str, Mapping[str, Range | Among]] = {
    "linear": {"C": ("log", 1e-6, 1e1)},
    "ordinal": {"C": ("log", 1e-6, 1e1)},
    "knn": {"n_neighbors": ("log int", 3.0, 300.0), "pca": Among((0, 16, 64)), "cosine": Among((0, 1))},
    "lgbm": {
        "n_estimators": ("int", 50.0, 400.0),
        "learning_rate": ("log", 0.01, 0.2),
        "num_leaves": ("log int", 3.0, 16.0),
        "min_child_share": ("log", 0.005, 0.1),
        "feature_fraction": ("log", 0.02, 1.0),
        "bagging_fraction": ("linear", 0.4, 1.0),
        "lambda_l2": ("log", 0.1, 100.0),
        "pca": Among((0, 32, 128)),
    },
    "forest": {
        "kind": Among(("extra", "random")),
        "max_features": ("log", 0.01, 0.6),
        "min_leaf_share": ("log", 0.001, 0.05),
    },
    "mlp": {
        "width": ("log int", 16.0, 128.0),
        "depth": ("int", 2.0, 3.0),
        "dropout": ("linear", 0.2, 0.8),
        "learning_rate": ("log", 1e-3, 3e-2),
        "weight_decay": ("log", 1e-4, 1.0),
    },
    "tokens-linear": {"C": ("log", 1e-7, 1e0), MIRROR: Among((False, True))},
    "attentive": {
        MIRROR: Among((False, True)),
        "heads": Among((4, 1, 16, 32)),
        "positions": Among((True, False)),
        "pca": Among((0, 16, 64)),
        "dropout": ("linear", 0.2, 0.8),
        "learning_rate": ("log", 1e-3, 3e-2),
        "weight_decay": ("log", 0.03, 30.0),
    },
    "mil": {
        "width": ("log int", 16.0, 256.0),
        "dropout": ("linear", 0.2, 0.8),
        "learning_rate": ("log", 1e-3, 3e-2),
        "weight_decay": ("log", 0.03, 30.0),
    },
}
"""For hundreds of participants: on nine cohorts of known truth (tests/benchmarks/head_signals.py), trees that see half
of the features were better than trees that see a tenth by 0.006 of macro AUROC, and 15 leaves no better than 7."""

ORDERED = "ordered"
WITH_ORDER = ("lgbm", "forest")
"""Heads of which it is searched as well whether they are to know the order of more than two classes."""

GRIDS: Mapping[str, list[dict[str, Any]]] = {
    "linear": [{"C": float(strength)} for strength in np.logspace(-5, 1, 13)],
    "ordinal": [{"C": float(strength)} for strength in np.logspace(-5, 1, 7)],
    "knn": [
        {"n_neighbors": count, "pca": pca, "cosine": cosine}
        for count in (240, 120, 60, 30, 15, 8)
        for pca in (0, 32)
        for cosine in (1, 0)
    ],
    "tokens-linear": [{"C": float(strength)} for strength in np.logspace(-6, 0, 13)],
}
"""Tried without --trials, from the smoothest head on; of equals the first is taken."""

SKETCHED_FROM = 4000
"""Volumes of train from which on trials of a head are compared by its sketch: with fewer the time does not matter, and
two networks rank a choice by accident more than five do."""

FEWEST_TO_LEARN = 10
"""Participants of the smallest class below which auto leaves out aggregations that learn from folds inside folds."""


@dataclass(frozen=True)
class SearchSpace:
    """Everything that a trial chooses: the head's ranges, and names of layers, pools and aggregations.

    device: where heads that can compute elsewhere do; views: how many augmented views they learn from; sketch: other
    parameters under which choices are scored. None of these is part of what is chosen. pools: several pools with commas
    between stand side by side. One name leaves nothing to choose.
    """

    model: str
    ranges: Mapping[str, Range | Among]
    layers: Values
    pools: Values
    aggregations: Values
    token_grid: tuple[int, int, int] | None = None
    device: str = "cpu"
    views: int = 0
    sketch: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, parameters: Mapping[str, Any], layer: str, pools: str, aggregation: str) -> ModelSpec:
        """Make the spec of one choice."""
        mirror = bool(parameters.get(MIRROR, False))
        features = FeatureChoice(layer, tuple(pools.split(",")) if pools else (), self.token_grid, self.views, mirror)
        own = {name: value for name, value in parameters.items() if name != MIRROR}
        moved = {"device": self.device} if self.device != "cpu" and "device" in HEADS[self.model]().get_params() else {}
        return ModelSpec(self.model, {**own, **moved}, features, aggregation)

    def trial(self, params: Mapping[str, Any]) -> ModelSpec:
        """Make the spec that a trial's choice is scored by."""
        spec = self.spec(**self.choice(params))
        return replace(spec, parameters={**spec.parameters, **self.sketch})

    @property
    def first(self) -> ModelSpec:
        """What is taken where nothing is searched: the head's defaults on the first of everything."""
        return self.spec({}, self.layers[0], self.pools[0], self.aggregations[0])

    def defaults(self) -> dict[str, Any]:
        """Give the head's own parameters where they lie in the ranges, and the first of what has names to choose."""
        own = {MIRROR: False} | HEADS[self.model]().get_params()
        inside = {name: own[name] for name, one in self.ranges.items() if is_inside(own[name], one)}
        return inside | {name: values[0] for name, values in self.names.items() if len(values) > 1}

    def tried_first(self) -> list[dict[str, Any]]:
        """Give what the first trials take: the defaults and, where the classes have an order, the same that know it."""
        plain = self.defaults()
        return [plain, {**plain, ORDERED: True}] if ORDERED in self.ranges else [plain]

    @property
    def names(self) -> dict[str, Values]:
        """Name what is chosen among names; one that leaves nothing to choose is in it too."""
        return {"layer": self.layers, "pools": self.pools, "aggregation": self.aggregations}

    def draw(self, trial: Any) -> None:
        """Let an Optuna trial draw a value of every range, and of all names where there are several."""
        for name, one in self.ranges.items():
            _draw_number(trial, name, one)
        for name, values in self.names.items():
            if len(values) > 1:
                trial.suggest_categorical(name, values)

    def choice(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Split what was drawn into the head's parameters and the names; a lone name was never asked for."""
        named = {name: params.get(name, values[0]) for name, values in self.names.items()}
        return {"parameters": {name: params[name] for name in self.ranges}, **named}

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "ranges": {name: _plain(one) for name, one in self.ranges.items()},
            "layers": list(self.layers),
            "pools": list(self.pools),
            "aggregations": list(self.aggregations),
            "token_grid": list(self.token_grid) if self.token_grid else None,
            "views": self.views,
            **({"sketch": dict(self.sketch)} if self.sketch else {}),
        }


def _draw_number(trial: Any, name: str, one: Range | Among) -> None:
    if isinstance(one, Among):
        trial.suggest_categorical(name, one.numbers)
        return
    kind, low, high = one
    if kind.endswith("int"):
        trial.suggest_int(name, int(low), int(high), log=kind.startswith("log"))
    else:
        trial.suggest_float(name, low, high, log=kind == "log")


def is_inside(value: Any, one: Range | Among) -> bool:
    """Say whether a value could have been suggested; None, for "the head decides", never is."""
    if isinstance(one, Among):
        return value in one.numbers
    return isinstance(value, int | float) and one[1] <= value <= one[2]


def make_space(
    model: str,
    *,
    layer: str,
    pool: str,
    aggregate: str,
    layers: Sequence[str],
    pools: Sequence[str],
    smallest_class: int,
    searched: bool,
    token_grid: tuple[int, int, int] | None = None,
    device: str = "cpu",
    views: int = 0,
    ordered: bool = False,
    protocols: int = 2,
    volumes: int = 0,
) -> SearchSpace:
    """Read --layer, --pool and --aggregate: auto is everything where it is searched, else last, mean and mean-logits.

    layers, pools: those of the store. ordered: whether more than two classes stand in an order. protocols: how many
    there are in train; of one, what a protocol weighs changes nothing. volumes: of train; see SKETCHED_FROM.

    Raises: UsageError where the head cannot have the aggregation.
    """
    checked = aggregate if aggregate == AUTO else check_aggregation(model, aggregate)
    possible = aggregations_of(model)
    order = {ORDERED: Among((False, True))} if ordered and model in WITH_ORDER else {}
    if smallest_class < FEWEST_TO_LEARN or protocols < 2:
        possible = tuple(name for name in possible if name not in LEARNED)
    return SearchSpace(
        model,
        {**SPACES.get(model, {}), **order},
        _names(layer, "last", layers, searched=searched),
        ("",) if token_grid else _names(pool, "mean", pool_choices(pools), searched=searched),
        _names(checked, check_aggregation(model, MEAN_LOGITS), possible, searched=searched),
        token_grid,
        device,
        views,
        dict(HEADS[model].sketch) if volumes >= SKETCHED_FROM else {},
    )


def pool_choices(pools: Sequence[str]) -> Values:
    """Give each pool alone, and all of them side by side."""
    return (*pools, *((",".join(pools),) if len(pools) > 1 else ()))


def _plain(one: Range | Among) -> list[Any]:
    return ["among", *one.numbers] if isinstance(one, Among) else list(one)


def _names(asked: str, default: str, known: Sequence[str], *, searched: bool) -> Values:
    """Give all known names, the default first, where auto is searched; else the one name."""
    if asked != AUTO:
        return (asked,)
    return tuple(sorted(known, key=lambda name: name != default)) if searched else (default,)
