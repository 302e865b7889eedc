"""The verb ``classify probe``: train one head on stored embeddings and judge it on val. Reads from top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from classify.aggregate import predict_levels
from classify.baselines import COVARIATES, MISSING, TOGETHER, predict_baselines
from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.table import Cohort
from classify.cohort.tasks import find_task
from classify.features import FeatureTable, make_features
from classify.heads import Head, find_head
from classify.judging.calibrate import calibrate, find_method
from classify.judging.judge import judge
from classify.judging.nuisance import probe_nuisance
from classify.judging.robustness import leave_one_out
from classify.judging.subgroups import measure_subgroups
from classify.predictions import Predictions, stack_predictions
from classify.run import MODEL, RunRecord, new_run_id, run_folder, save_run
from classify.search.folds import head_weights
from classify.search.search import search_head
from classify.stacking import predict_with_age_and_site
from classify.standardise import Standardiser
from classify.stopwatch import Stopwatch
from embeddings_store.provenance import code_commit, package_versions
from embeddings_store.snapshot import Snapshot

PACKAGES = ("octprobe", "numpy", "pandas", "scikit-learn", "lightgbm", "optuna", "torch")
DUMMY = "dummy"


@dataclass(frozen=True)
class ProbeOptions:
    """What the command line asked for. layer and pools must be in the store; trials 0: the safe defaults.

    calibrate: temperature, isotonic or none; fitted on val, so only a later evaluation uses it.
    robustness: also fit the head without each site and each device, and judge it there.
    """

    model: str
    participants: Path
    task: str = "four-class"
    layer: str = "last"
    pools: tuple[str, ...] = ("mean",)
    trials: int = 0
    calibrate: str = "temperature"
    robustness: bool = False
    seed: int = 0
    replicates: int = 2000
    runs: Path = Path("runs")
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probed:
    """A published run: its record and its folder."""

    record: RunRecord
    folder: Path


def probe(options: ProbeOptions, *, now: datetime, read: Callable[[], Snapshot]) -> Probed:
    """Fit one head on train, judge it on val beside the baselines, and publish the run folder.

    The test split is counted and left alone. read: opens the store, after the cheap checks.
    Raises: UsageError, CohortError, LeakError, StoreError, RunFolderError.
    """
    clock = Stopwatch()
    task, head_class = find_task(options.task), find_head(options.model)
    method = find_method(options.calibrate)
    people_table = read_participants(options.participants)
    stored = read()
    cohort = join_cohort(stored.index, stored.pooled, people_table, task)
    features = make_features(cohort, stored.pooled, stored.space, layer=options.layer, pools=options.pools)
    train, val = features.only("train"), features.only("val")
    clock.lap("read")

    run_id = new_run_id(now, options.model, options.task)
    with run_folder(options.runs, run_id) as aside:
        found = search_head(
            options.model, train, classes=len(task.classes), trials=options.trials, seed=options.seed, folder=aside
        )
        clock.lap("search")
        standardiser = Standardiser.fit(train.x, train.protocol)
        head = head_class(random_state=options.seed, **(found.parameters if found else {}))
        fit_head(head, train.standardised(standardiser))
        clock.lap("fit")
        levels = predict_levels(head, val.standardised(standardiser), len(task.classes))
        others = predict_beside(head, train, levels["participant"], cohort, seed=options.seed)
        judged = judge(levels, others, task.classes, replicates=options.replicates, seed=options.seed)
        groups = measure_subgroups(
            levels["volume"],
            cohort.table[cohort.table["split"] == "val"],
            task.classes,
            replicates=options.replicates,
            seed=options.seed,
        )
        fitted = calibrate(method, levels, seed=options.seed) if method else None
        clock.lap("evaluate")
        robust = check_robustness(options, head, features, cohort, levels["volume"]) if options.robustness else None
        if fitted:
            fitted[0].save(aside / MODEL)
        head.save(aside / MODEL)
        standardiser.save(aside / MODEL)
        record = RunRecord(
            id=run_id,
            created=now.isoformat(timespec="seconds"),
            **describe_inputs(options, cohort, features, stored),
            parameters=head.get_params(),
            search=found.record if found else None,
            **vars(judged),
            baselines_missing=list(MISSING),
            probes_of_nuisance=probe_nuisance(features, cohort.table, replicates=options.replicates, seed=options.seed),
            seconds=clock.seconds(),
            subgroups={"val": groups},
            robustness=robust,
            calibration=fitted[1] if fitted else None,
        )
        predictions = stack_predictions([*levels.values(), *(p for n, p in others.items() if n != options.model)])
        folder = save_run(aside, record, predictions, cohort.table)
    return Probed(record, folder)


def fit_head(head: Head, train: FeatureTable) -> None:
    """Fit a head on standardised rows: classes weigh the same, and so do the participants of a class."""
    head.fit(train.x, train.y, head_weights(head.name, train), train.participant)


def predict_beside(
    head: Head, train: FeatureTable, people: Predictions, cohort: Cohort, *, seed: int
) -> dict[str, Predictions]:
    """Predict what stands beside the head: the baselines, and the head together with age and site.

    train: raw features; people: the head's own participant predictions of the judged split.
    """
    fitted_on, judged = cohort.people("train"), cohort.people(people.split)
    classes, names = len(cohort.task.classes), tuple(COVARIATES)
    others = predict_baselines(fitted_on, judged, classes=classes, split=people.split, names=names)
    if head.name == DUMMY:  # without an embedding it would be age+site again
        return others
    together = predict_with_age_and_site(
        lambda: type(head)(**head.get_params()), train, people, fitted_on, judged, seed=seed
    )
    return others | {TOGETHER: together}


def check_robustness(
    options: ProbeOptions, head: Head, features: FeatureTable, cohort: Cohort, whole: Predictions
) -> dict[str, list[dict[str, Any]]]:
    """Fit the head again without each site and each device, and judge it there."""
    return leave_one_out(
        lambda: type(head)(**head.get_params()),
        features,
        cohort.table,
        whole,
        cohort.task.classes,
        replicates=options.replicates,
        seed=options.seed,
    )


def describe_inputs(options: ProbeOptions, cohort: Cohort, features: FeatureTable, stored: Snapshot) -> dict[str, Any]:
    """Give the fields of the run record that are known before anything is fitted."""
    return {
        "command": list(options.command),
        "model": options.model,
        "task": cohort.task.name,
        "classes": list(cohort.task.classes),
        "space": stored.space_id,
        "embedding_space": stored.space.to_dict(),
        "snapshot": {
            "number": "live" if stored.number is None else stored.number,
            "rows": len(stored.index),
            "note": stored.note,
        },
        "cohort_sha256": cohort.sha256,
        "splits": cohort.sizes(),
        "features": {
            "layer": options.layer,
            "pools": list(options.pools),
            "aggregation": "mean of logits: volume, eye, participant",
            "standardise": "within protocol, fitted on train",
            "dimensions": features.x.shape[1],
        },
        "seeds": {"head": options.seed, "folds": options.seed, "bootstrap": options.seed},
        "flow": cohort.flow,
        "phantom": cohort.phantom,
        "versions": package_versions(PACKAGES) | {"commit": code_commit()},
    }
