"""The verb ``classify benchmark``: a plan's datasets x encoders x heads, and the tables of a paper. Top to bottom.

State is stores and runs alone: what is there is found again, so that a run that was killed goes on, and a plan that was
changed makes only what the change touches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from classify.errors import CohortError
from classify.features.stores import ReadStore, reader_at
from embeddings_store.terminal.console import say
from reports.benchmark.cells import RUNS, Made, fill_stores, make_cells, open_test
from reports.benchmark.look import Gap, look_at
from reports.benchmark.options import BenchmarkOptions
from reports.benchmark.plan import read_plan
from reports.benchmark.results import describe_cells, make_boards, over_datasets, ranks_over_datasets


@dataclass(frozen=True)
class Benchmarked:
    """What came of a plan, and where it was written."""

    record: dict[str, Any]
    folder: Path


def benchmark(
    options: BenchmarkOptions,
    *,
    clock: Callable[[], datetime] | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Benchmarked:
    """Make every cell of a plan that is not there yet, and write the result below --out.

    Raises: UsageError for a plan that cannot be, before anything is encoded; BucketError, StoreError, RunFolderError.
    A cell that cannot be is a gap with its reason.
    """
    plan, clock, out = read_plan(options.plan), clock or partial(datetime.now, UTC), options.place
    looked, gaps = look_at(plan, out, accepted=options.accept_licence, device=options.device, tell=tell)
    read = read or reader_at(None)
    fill_stores(looked, tell)
    made: list[Made] = []
    for found in make_cells(plan, looked, out / RUNS, clock, read, tell):
        if isinstance(found, Gap):
            gaps.append(found)
        else:
            made.append(found)
    if not made:
        raise CohortError(f"benchmark: no cell could be made; the first one: {gaps[0].reason}")
    by_name = {one.dataset.name: one for one in looked}
    split = "test" if plan.judge == "test" else None
    if split:
        made = [open_test(plan, by_name[one.dataset], one, clock, read) for one in made]
    boards, draws = make_boards(plan, made, split)
    record = {
        "created": clock().isoformat(timespec="seconds"),
        "plan": {"name": plan.name, "sha256": plan.digest, "reference": plan.reference, "judge": plan.judge},
        "cells": describe_cells(made),
        "gaps": [vars(gap) for gap in gaps],
        "boards": boards,
        "over_datasets": over_datasets(plan, boards, draws),
        "ranks": ranks_over_datasets(plan, boards, draws),
    }
    return Benchmarked(record, out)
