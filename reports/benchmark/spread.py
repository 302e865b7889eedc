"""--ray: cells that are not there yet are made on a Ray cluster; the benchmark then finds them as if made here."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from classify.comparing.cells import run_cells
from classify.errors import CohortError
from classify.features.stores import reader_at
from classify.search.ray_engine import QUIET, connect_ray
from classify.study_options import CompareOptions
from embeddings_store.errors import OctProbeError, RunError, UsageError
from embeddings_store.extras import require
from reports.benchmark.cells import options_of
from reports.benchmark.look import Looked
from reports.benchmark.plan import Plan


def spread_cells(
    plan: Plan, looked: Sequence[Looked], runs: Path, address: str | None, tell: Callable[[str], None]
) -> None:
    """Make the cells of a plan at once, one a core; runs lies where every worker can write.

    The first cells of a dataset, one a task, are made one after another, since they keep the splits that others read.
    Raises: UsageError where Ray is not installed or cannot be reached, RunError where a worker ended by itself.
    """
    ray = require_ray()
    cells = [_single_cells(plan, one, runs.absolute(), tell) for one in looked]
    connect_ray(ray, address, None)
    try:
        task = ray.remote(num_cpus=1)(make_in_turn)
        tell(f"ray: {sum(len(first) + len(others) for first, others in cells)} cells")
        waiting = []
        for first, others in cells:
            splits_kept = task.remote(first)
            waiting += [splits_kept, *(task.remote([one], splits_kept) for one in others)]
        ray.get(waiting)
    except ray.exceptions.RayError as error:
        raise RunError(
            f"ray: a cell ended with {type(error).__name__}; the same command goes on, and without --ray shows where"
        ) from error
    finally:
        ray.shutdown()


def require_ray() -> Any:
    """Give ray. Raises: UsageError that names the extra where it is not installed."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    return require("ray", "--ray, instead of one cell after another")


def _single_cells(
    plan: Plan, looked: Looked, runs: Path, tell: Callable[[str], None]
) -> tuple[list[CompareOptions], list[CompareOptions]]:
    """Give the cells of a dataset: the first of each task, and the others."""
    first, others = list[CompareOptions](), list[CompareOptions]()
    for task in looked.dataset.tasks if looked.seen else ():
        try:
            options = options_of(plan, looked, task, runs, tell)
        except (CohortError, UsageError):
            continue  # which is said where the cells are looked for
        cells = [
            replace(options, store=(f"{name}={store}",), models=(head,), jobs=1)
            for name, store in options.stores.items()
            for head in options.models
        ]
        first, others = [*first, *cells[:1]], [*others, *cells[1:]]
    return first, others


def make_in_turn(asked: Sequence[CompareOptions], _after: None = None) -> None:
    """Make cells; why one cannot be is found again, and said, where it is looked for. _after: what Ray waits for."""
    for options in asked:
        with suppress(OctProbeError):
            for _ in run_cells(options, partial(datetime.now, UTC), reader_at(options.endpoint_url), lambda _: None):
                pass
