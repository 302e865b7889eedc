"""What a probe's run says of itself: its question, how it was made, what was fitted, and what could not be."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from classify.baselines.covariates import TWIN_MISSING, choose_baselines, describe_units
from classify.cohort.table import Cohort
from classify.evaluating.cross_validation import CrossValidated
from classify.features.several_stores import numbers_of
from classify.features.table import FeatureTable, count_constant
from classify.fitting.aggregate import SAID
from classify.fitting.model import FittedModel
from classify.fitting.sensitivity import vary_seeds
from classify.fitting.source import FeatureSource
from classify.judging.nuisance import probe_nuisance
from classify.judging.robustness import leave_one_out
from classify.options import ProbeOptions
from classify.run.estimate import lift
from classify.run.inputs import digest_inputs, digest_rows
from classify.run.record import Asked, FeaturesSeen, Missing, ModelFacts, Provenance
from classify.run.stopwatch import Stopwatch
from classify.run.typed_record import as_json
from classify.search.search import Chosen
from embeddings_store.snapshot import Snapshot
from embeddings_store.terminal.provenance import code_commit, package_versions

PACKAGES = ("octprobe", "numpy", "pandas", "scikit-learn", "lightgbm", "optuna", "torch")


def describe_model(
    options: ProbeOptions, model: FittedModel, source: FeatureSource, chosen: Chosen,
    calibration: dict[str, Any] | None, clock: Stopwatch, crossed: CrossValidated | None = None,
) -> ModelFacts:  # fmt: skip
    """Say what was fitted, and what its features know, beyond the predictions of val."""
    asked = {"replicates": options.replicates, "seed": options.seed}
    cohort, classes = source.cohort, source.cohort.task.classes
    train = source.only("train").table(model.features)
    val = None if crossed else source.only("val").table(model.features)
    nuisance = probe_nuisance(train, val, cohort.measured(), **asked) if val else []
    clock.lap("nuisance")
    whole = source.table(model.features) if options.robustness else None
    robustness = leave_one_out(model, whole, cohort.table, classes, **asked) if whole else None
    clock.lap("robustness", only_if=options.robustness)
    seeds = range(options.seed, options.seed + options.seeds)
    sensitivity = vary_seeds(model.spec, train, val, classes, seeds=seeds) if val and len(seeds) > 1 else None
    clock.lap("seeds", only_if=sensitivity is not None)
    return ModelFacts(
        model.head.name,
        describe_features(model, train),
        model.head.get_params(),
        search=lift(as_json(chosen.record)) if chosen.record else None,
        calibration=calibration,
        probes_of_nuisance=nuisance,
        robustness=robustness,
        seed_sensitivity=sensitivity,
        cross_validation=crossed.record if crossed else None,
    )


def describe_missing(cohort: Cohort) -> list[Missing]:
    """List the baselines that are not made, with their reasons."""
    return [
        TWIN_MISSING,
        *choose_baselines(cohort.task, *(describe_units(cohort, split) for split in ("train", "val")))[1],
    ]


def describe_features(model: FittedModel, train: FeatureTable) -> FeaturesSeen:
    """Say what the head saw, and how scans became participants."""
    return {
        "layer": model.features.layer,
        "pools": list(model.features.pools),
        "token_grid": list(model.features.token_grid) if model.features.token_grid else None,
        "views": model.features.views,
        **({"mirror": True} if model.features.mirror else {}),
        "aggregation": SAID[model.aggregation.name],
        "aggregation_learned": model.aggregation.to_dict(),
        "standardise": "within protocol, fitted on train",
        "dimensions": train.x.shape[1],
        "constant": count_constant(train),
    }


def describe_making(
    options: ProbeOptions, stored: Snapshot, now: datetime, clock: Stopwatch, models: dict[str, dict[str, str]]
) -> Provenance:
    """Say when and by what the run was made; all that was done by now counts as saving."""
    inputs, versions = digest_inputs(asdict(options), digest_rows(stored)), package_versions(PACKAGES)
    seeds = {"head": options.seed, "folds": options.seed, "bootstrap": options.seed}
    clock.lap("save")
    return Provenance(
        now.isoformat(timespec="seconds"),
        list(options.command),
        inputs,
        seeds,
        versions | {"commit": code_commit()},
        clock.seconds(),
        models,
    )


def describe_question(cohort: Cohort, stored: Snapshot) -> Asked:
    """Say what was asked of which vectors."""
    return Asked(
        cohort.task.name,
        list(cohort.task.classes),
        stored.space_id,
        cohort.phantom,
        cohort.task.to_dict(),
        stored.space.to_dict(),
        stored.encoder.to_record() if stored.encoder else None,
        {
            "number": "live" if stored.number is None else stored.number,
            "rows": len(stored.index),
            "note": stored.note,
            **numbers_of(stored),
        },
        stored.cost.to_record() if stored.cost else None,
    )
