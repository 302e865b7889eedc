"""A comparison on disk: ``<runs>/comparisons/<id>/`` with comparison.json and leaderboard.csv."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from classify.comparing.board import ComparisonRecord, Line, TaskBoard
from classify.comparing.leaderboard import at_once, standing
from classify.judging.bootstrap import TOO_FEW
from classify.judging.kinds import measures_of
from classify.run.published_folder import COMPARISONS, published_folder
from classify.run.typed_record import as_json
from embeddings_store.plain_text import for_spreadsheets

COMPARISON = "comparison.json"
LEADERBOARD = "leaderboard.csv"


def save_comparison(runs: Path, record: ComparisonRecord, now: datetime) -> Path:
    """Write a comparison, under the id of its folder. Raises: RunFolderError where the folder cannot be written."""
    with published_folder(runs, COMPARISONS, now) as (aside, place):
        for_spreadsheets(flatten(record.tasks)).to_csv(aside / LEADERBOARD, index=False)
        named = as_json(replace(record, id=place.name))
        (aside / COMPARISON).write_text(json.dumps(named, indent=2, allow_nan=False))
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
    measures |= {f"difference_to_best/{name}": at_once(best[name]) if best else {} for name in kind.headline}
    measures |= {f"difference_to_random_twin/{name}": twin.get(name, {}) for name in kind.headline}
    chosen = board.best_of_n.corrected if line.name == board.best else {}
    measures |= {f"corrected/{name}": chosen.get(name, {}) for name in kind.headline}
    row |= {"standing": standing(line, board)}
    for name, measured in measures.items():
        low, high = (TOO_FEW if "too_few" in measured else measured.get(side) for side in ("low", "high"))
        row |= {name: measured.get("value"), f"{name}/low": low, f"{name}/high": high}
    return row
