"""Everything between stored vectors and predictions, fitted and saved as one: features, head, aggregation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.units import EYE, VOLUME, name_units
from classify.errors import RunFolderError
from classify.features.standardise import Standardiser
from classify.features.table import FeatureChoice, FeatureTable
from classify.fitting.aggregate import (
    AGGREGATIONS,
    BEST_PROTOCOL,
    BY_HEAD,
    LEARNED_WEIGHTS,
    MEAN_FEATURES,
    MEAN_LOGITS,
    Aggregation,
    aggregate_levels,
    first_rows,
    from_probability,
    mean_eyes,
    mean_units,
    predict_volumes,
)
from classify.fitting.protocol_weights import ScanPredictions, learn_best_protocol, learn_weights
from classify.heads import HEADS, find_head, read_head
from classify.heads.contract import Head, softmax
from classify.model_files import read_object, readable
from classify.on_cores import on_cores
from classify.run.folder import MODEL, Run
from classify.run.predictions import Predictions, join_predictions
from classify.run.record import RECORD
from classify.search.folds import HELD_OUT_FOLDS, Fold, TrainingPart, deal_folds
from embeddings_store.errors import UsageError
from embeddings_store.machine import usable_cores

__all__ = ["FeatureChoice", "FittedModel", "ModelSpec", "fit_model", "load_model", "predict_out_of_fold"]

STATE = "model.json"
MOST_ASIDE = 4
"""Folds that are fitted side by side, each with a standardised copy of its rows, where a head uses one core; of patch
tokens two, see features.tokens.COPIES."""

LEARNERS = {BEST_PROTOCOL: learn_best_protocol, LEARNED_WEIGHTS: learn_weights}


@dataclass(frozen=True)
class ModelSpec:
    """What to fit: a head by name and its parameters, on which features, and how scans become participants."""

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: FeatureChoice = field(default_factory=FeatureChoice)
    aggregation: str = MEAN_LOGITS


@dataclass(frozen=True)
class FittedModel:
    """A fitted head with what comes before and after it. random_state is no part of the spec's parameters."""

    features: FeatureChoice
    standardiser: Standardiser
    head: Head
    aggregation: Aggregation

    @property
    def spec(self) -> ModelSpec:
        """What it was fitted by: fitted again by fit_model, it would be itself."""
        parameters = {name: value for name, value in self.head.get_params().items() if name != "random_state"}
        return ModelSpec(self.head.name, parameters, self.features, self.aggregation.name)

    def predict(self, raw: FeatureTable, *, classes: int, split: str) -> dict[str, Predictions]:
        """Predict raw rows of self.features: per volume (in their order), eye and participant (sorted).

        Raises: UsageError where the rows are standardised.
        """
        return self.predict_standardised(raw.standardised(self.standardiser), classes=classes, split=split)

    def predict_standardised(self, table: FeatureTable, *, classes: int, split: str) -> dict[str, Predictions]:
        """Predict rows that this model's own standardiser has seen already. Raises: UsageError for raw rows."""
        if not table.is_standardised:
            raise UsageError("features: expected standardised ones, got raw ones; FittedModel.predict takes them raw")
        name = self.head.name
        volumes = predict_volumes(self.head, table, classes=classes, model=name, split=split)
        levels = {VOLUME: volumes}
        if table.level == VOLUME:
            return levels
        if self.aggregation.name == MEAN_FEATURES:
            means = {EYE: mean_eyes(table), table.level: mean_units(table)}
            return levels | {
                level: _predict_level(self.head.predict_proba(units.x), self.head, units, level, classes, split)
                for level, units in means.items()
            }
        if self.aggregation.name == BY_HEAD:
            return levels | _predict_bags(self.head, table, classes, split)
        return aggregate_levels(volumes, table.eye, self.aggregation.weigh(table.protocol), judged=table.level)

    def save(self, folder: Path) -> None:
        """Write head, standardiser, and the choice of features and aggregation, without pickle."""
        self.head.save(folder)
        self.standardiser.save(folder)
        state = {"features": asdict(self.features), "aggregation": self.aggregation.to_dict()}
        (folder / STATE).write_text(json.dumps(state, indent=2))


def fit_model(spec: ModelSpec, train: FeatureTable, *, classes: int, seed: int) -> FittedModel:
    """Fit everything on raw rows of spec.features; seed: of the head, and of folds inside where there are any."""
    return fit_on(spec, TrainingPart(train, seed), classes=classes, seed=seed)


def fit_on(spec: ModelSpec, part: TrainingPart, *, classes: int, seed: int) -> FittedModel:
    """Do the same on a part that keeps what several fits share."""
    head_class = find_head(spec.model, number=not classes)
    head = head_class(random_state=seed, **_parameters(spec))
    head.fit_prepared(part.prepared(head_class, of_people=spec.aggregation == MEAN_FEATURES))
    return FittedModel(spec.features, part.standardiser, head, _fit_aggregation(spec, part, head, classes, seed))


def fit_grid(
    spec: ModelSpec, parts: Sequence[TrainingPart], candidates: Sequence[Mapping[str, Any]], *, classes: int, seed: int
) -> list[list[FittedModel]]:
    """Fit every candidate's parameters on every part: fitted[part][candidate], each the same as by fit_on."""
    head_class, specs = find_head(spec.model, number=not classes), [replace(spec, parameters=one) for one in candidates]
    rows = [part.rows_for(head_class, of_people=spec.aggregation == MEAN_FEATURES) for part in parts]
    fitted = head_class.fit_grid(rows, [_parameters(one) for one in specs], seed)
    return [
        [
            FittedModel(spec.features, part.standardiser, head, _fit_aggregation(one, part, head, classes, seed))
            for one, head in zip(specs, heads, strict=True)
        ]
        for part, heads in zip(parts, fitted, strict=True)
    ]


def aggregations_of(model: str) -> tuple[str, ...]:
    """Name the aggregations that a head can have: its own where it takes all scans at once."""
    return (BY_HEAD,) if HEADS[model].pools_scans else tuple(AGGREGATIONS)


def check_aggregation(model: str, name: str) -> str:
    """Give the aggregation back, or the head's own for the default of the others; UsageError where it cannot be."""
    possible = aggregations_of(model)
    if name in possible:
        return name
    if name == MEAN_LOGITS and possible == (BY_HEAD,):
        return BY_HEAD
    raise UsageError(f"--aggregate: {model} can have auto, {', '.join(possible)}; got {name!r}")


def predict_out_of_fold(
    spec: ModelSpec, folds: Iterable[Fold], *, classes: int, seed: int
) -> list[dict[str, Predictions]]:
    """Predict the held-out rows of each fold, at every level, by a model that was fitted without them."""
    return [
        fit_on(spec, fold.fit, classes=classes, seed=seed).predict_standardised(
            fold.held, classes=classes, split=str(fold.held.split[0])
        )
        for fold in folds
    ]


def predict_held_out(model: FittedModel, train: FeatureTable, *, classes: int, seed: int) -> dict[str, Predictions]:
    """Predict all of train at every level, each participant by a fit like the model's on the other folds.

    A fit on fewer people may be louder or quieter, about a class (boosted trees are) or about everybody (an epoch that
    chance decides), which is no evidence: the logits of each fold get the mean and the spread that the model's have
    on the rows that both were fitted on. train: raw features of the model's choice. Raises: CohortError where a class
    has one participant.
    """
    whole = model.predict(train, classes=classes, split="train")

    def hold_back(fold: Fold) -> dict[str, Predictions]:
        fitted = fit_on(model.spec, fold.fit, classes=classes, seed=seed)
        own = fitted.predict_standardised(fold.fit.rows, classes=classes, split="train")
        held = fitted.predict_standardised(fold.held, classes=classes, split="train")
        return {level: _speak_like(whole[level], own[level], held[level]) for level in held}

    folds, parts = deal_folds(train, seed, folds=HELD_OUT_FOLDS), list[dict[str, Predictions]]()
    most = 2 if model.head.reads_tokens else MOST_ASIDE
    at_once = min(most, usable_cores()) if model.head.fits_aside else 1
    while some := list(islice(folds, at_once)):
        parts += on_cores(hold_back, some)
        some.clear()  # or they would be held while the next ones are made
    return {level: join_predictions([part[level] for part in parts]) for level in whole}


def _speak_like(whole: Predictions, own: Predictions, held: Predictions) -> Predictions:
    """Give the held-out logits of a fold's fit the mean and the spread of the model's, known by what both say of own.

    One factor for all classes, so that no order of scores changes within a fold; none where either never varies.
    """
    known = whole.logits[np.isin(whole.unit, own.unit)]
    loud, quiet = (float(np.var(said - said.mean(axis=1, keepdims=True), axis=0).sum()) for said in (known, own.logits))
    factor = np.sqrt(loud / quiet) if min(loud, quiet) > 0 else 1.0
    logits = known.mean(axis=0) + factor * (held.logits - own.logits.mean(axis=0))
    return replace(held, logits=logits, probability=softmax(logits))


def load_model(run: Run, part: str = MODEL) -> FittedModel:
    """Read the model of a finished run; older runs keep their features in the record and took the mean of logits.

    part: the folder of it, such as that of the random twin. Raises: RunFolderError where the run has no head of
    classify, no such part, or it is damaged.
    """
    name = run.record.fitted.model
    if name not in HEADS:
        raise RunFolderError(
            f"run {run.record.id}: expected a run of classify probe ({', '.join(HEADS)}), got the model {name!r}; "
            f"a fine-tuned run is looked at by finetune evaluate"
        )
    folder = run.model_folder(part)
    if not (folder / STATE).exists():
        seen = run.record.fitted.features
        with readable(RECORD):
            features = FeatureChoice.of_record({name: seen[name] for name in ("layer", "pools") if name in seen})
        return _fitting(FittedModel(features, Standardiser.load(folder), read_head(folder), Aggregation()), run)
    state = read_object(folder / STATE)
    with readable(f"{folder.name}/{STATE}"):
        features, aggregation = FeatureChoice.of_record(state["features"]), Aggregation(**state["aggregation"])
        if not all(weight >= 0 for weight in (*aggregation.weights.values(), aggregation.other)):
            raise ValueError("expected weights of protocols of at least 0")
    return _fitting(FittedModel(features, Standardiser.load(folder), read_head(folder), aggregation), run)


def _fitting(model: FittedModel, run: Run) -> FittedModel:
    """Return the model if its parts belong together and to the run. Raises: RunFolderError."""
    width, classes = model.standardiser.tokens * model.standardiser.mean.shape[1], len(run.record.asked.classes)
    head, name = model.head, run.record.fitted.model
    unlike = head.classes_.max() >= max(classes, 1) or head.is_number != (not classes)
    if head.n_features_in_ != width or head.name != name or unlike:
        raise RunFolderError(
            f"run {run.record.id}: expected a head {name} of {width} features and {classes} classes, "
            f"got {head.name} of {head.n_features_in_} features and the classes {head.classes_.tolist()[:9]}; "
            "make the run again"
        )
    return model


def _parameters(spec: ModelSpec) -> dict[str, Any]:
    """Tell a head that reads tokens how many there are."""
    grid = spec.features.token_grid
    return dict(spec.parameters) | ({"tokens": prod(grid)} if grid else {})


def _fit_aggregation(spec: ModelSpec, part: TrainingPart, head: Head, classes: int, seed: int) -> Aggregation:
    """Learn what the scans count from what was not known when they were predicted; head: fitted on the part."""
    if head.pools_scans:
        return Aggregation(BY_HEAD)
    if spec.aggregation not in LEARNERS:
        return Aggregation(spec.aggregation)
    if head.holds_back:
        known = head.held_out_proba(part.rows.x)
        there = np.isfinite(known).all(axis=1)
        there |= not there.any()  # a head that diverged says so below
        rows = part.rows.where(there)
        held = [(_predict_level(known[there], head, rows, VOLUME, classes, "train"), rows)]
    else:
        plain = replace(spec, aggregation=MEAN_LOGITS)
        levels = predict_out_of_fold(plain, part.inner, classes=classes, seed=seed)
        held = [(level[VOLUME], fold.held) for level, fold in zip(levels, part.inner, strict=True)]
    weights, other = LEARNERS[spec.aggregation](ScanPredictions.join(*zip(*held, strict=True)))
    return Aggregation(spec.aggregation, weights, other)


def _predict_level(
    known: np.ndarray, head: Head, units: FeatureTable, level: str, classes: int, split: str
) -> Predictions:
    return from_probability(
        known, head.classes_, classes, model=head.name, level=level, split=split, unit=units.volume, table=units
    )


def _predict_bags(head: Head, table: FeatureTable, classes: int, split: str) -> dict[str, Predictions]:
    return {
        level: _predict_level(head.predict_bags(table.x, unit)[1], head, first_rows(table, unit), level, classes, split)
        for level in dict.fromkeys((EYE, table.level))
        for unit in [name_units(level, table.participant, table.eye, table.volume)]
    }
