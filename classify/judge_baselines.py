"""The verb ``classify baselines``: what can be said of these participants without a head, judged on val.

It writes no run: a run is a model that can be evaluated, shown and used again, and nobody should use these.
"""

from collections.abc import Callable
from typing import Any

from classify.baselines.covariates import (
    TWIN_MISSING,
    choose_baselines,
    describe_units,
    headline_of,
    predict_baselines,
)
from classify.cohort.tables import read_tables
from classify.cohort.vouched import NOBODY, read_vouched
from classify.features.stores import ReadStore, reader_at
from classify.judging.bootstrap import draw_replicates, measure, paired_differences
from classify.named_tasks import with_stored_labels
from classify.run_options import BaselineOptions
from embeddings_store.terminal.console import say

JUDGED = "val"


def judge_baselines(
    options: BaselineOptions, *, read: ReadStore | None = None, tell: Callable[[str], None] = say
) -> dict[str, Any]:
    """Fit every baseline that the tables and the store allow on train, and judge it on val; test stays locked.

    Gives task, classes, split, baselines {name: metrics with intervals}, differences_to_age_site, baselines_missing,
    splits, flow, cohort_sha256, measurements, table_notes, phantom, seed and replicates. tell: hears where
    measurements came from, and what was mended. Raises: UsageError, CohortError, LeakError, StoreError.
    """
    options = with_stored_labels(options, (options.store,), tell)
    question = options.question(options.task)
    vouched = read_vouched(options.allow_near_copies) if options.allow_near_copies else NOBODY
    tables = read_tables(options.label_source, question, options.measurements, vouched=vouched, tell=tell)
    task = tables.task
    stored = tables.labels.published.reading(read or reader_at(options.endpoint_url))(options.store)
    cohort = tables.join(stored)
    tables.keep_splits(stored.index, tell)
    train, judged = describe_units(cohort, "train"), describe_units(cohort, JUDGED)
    names, missing = choose_baselines(task, train, judged)
    found = predict_baselines(task, train, judged, split=JUDGED, names=names)
    people = found["dummy"]
    drawn = draw_replicates(people.participant, replicates=options.replicates, seed=options.seed)
    measured = {name: measure(people, drawn, task.classes) for name, people in found.items()}
    reference = measured.get(headline_of(task))
    return {
        "task": task.name,
        "task_definition": task.to_dict(),
        "classes": list(task.classes),
        "split": JUDGED,
        "baselines": {name: table for name, (table, _) in measured.items()},
        "differences_to_age_site": {
            name: paired_differences(values, reference[1], people, task.classes)
            for name, (_, values) in measured.items()
            if reference and name != headline_of(task)
        },
        "baselines_missing": [TWIN_MISSING, *missing],
        "splits": cohort.sizes(),
        "flow": cohort.flow,
        "cohort_sha256": cohort.sha256,
        "measurements": tables.describe(cohort).measurements,
        "table_notes": list(tables.notes),
        "phantom": cohort.phantom,
        "seed": options.seed,
        "replicates": options.replicates,
    }
