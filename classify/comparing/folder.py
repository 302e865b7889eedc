"""A comparison on disk: ``<runs>/comparisons/<id>/`` with comparison.json and leaderboard.csv."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from classify.comparing.board import ComparisonRecord, Line, TaskBoard
from classify.comparing.leaderboard import standing
from classify.judging.kinds import measures_of
from classify.run.estimate import TOO_FEW, Estimate
from classify.run.published_folder import COMPARISONS, published_folder
from classify.run.typed_record import write_record
from embeddings_store.plain_text import for_spreadsheets

COMPARISON = "comparison.json"
LEADERBOARD = "leaderboard.csv"


def save_comparison(runs: Path, record: ComparisonRecord, now: datetime) -> Path:
    """Write a comparison, under the id of its folder. Raises: RunFolderError where the folder cannot be written."""
    with published_folder(runs, COMPARISONS, now) as (aside, place):
        for_spreadsheets(flatten(record.tasks)).to_csv(aside / LEADERBOARD, index=False)
        write_record(aside / COMPARISON, replace(record, id=place.name))
    return place


def flatten(tasks: Mapping[str, TaskBoard]) -> pd.DataFrame:
    """Give one row a line of every leaderboard: metrics and differences with their intervals as columns.

    The intervals of differences to the best hold for all lines at once; see add_simultaneous. corrected/...: of the
    best, what the choice did not flatter.
    """
    return pd.DataFrame([_flat(task, line, board) for task, board in tasks.items() for line in board.lines])


def _flat(task: str, line: Line, board: TaskBoard) -> dict[str, Any]:
    row = {"task": task} | {
        name: getattr(line, name) for name in ("name", "kind", "store", "model", "run", "participants", "seconds")
    }
    kind = measures_of(board.classes)
    measures = {name: line.metrics[name] for name in kind.overall}
    best, twin = (found or {} for found in (line.difference_to_best, line.difference_to_random_twin))
    measures |= {f"difference_to_best/{name}": best[name].at_once() if best else Estimate() for name in kind.headline}
    measures |= {f"difference_to_random_twin/{name}": twin.get(name, Estimate()) for name in kind.headline}
    chosen = board.best_of_n.corrected if line.name == board.best else {}
    measures |= {f"corrected/{name}": chosen.get(name, Estimate()) for name in kind.headline}
    row |= {"standing": standing(line, board)}
    for name, measured in measures.items():
        low, high = (TOO_FEW, TOO_FEW) if measured.too_few else (measured.low, measured.high)
        row |= {name: measured.value, f"{name}/low": low, f"{name}/high": high}
    return row
