"""The table of several targets on disk: ``<runs>/targets/<id>/`` with targets.json and targets.csv."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from classify.run.estimate import Estimate, write_record
from classify.run.published_folder import TARGETS, published_folder
from embeddings_store.plain_text import for_spreadsheets

TABLE = "targets"


def save_targets(runs: Path, record: dict[str, Any], now: datetime) -> Path:
    """Write record and table, and give the folder. Raises: RunFolderError where the runs cannot be written."""
    with published_folder(runs, TARGETS, now) as (aside, place):
        write_record(aside / f"{TABLE}.json", {"id": place.name} | record)
        rows = [row_of(line) for line in record["targets"]] + [dict(gap) for gap in record["absent"]]
        for_spreadsheets(pd.DataFrame(rows)).to_csv(aside / f"{TABLE}.csv", index=False)
    return place


def row_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return one target as a row of plain columns."""
    row = {name: line[name] for name in ("target", "run", "kind", "level")} | {"reason": ""}
    row["participants"] = line["val"].get("participants")
    for metric, measured in line["metrics"].items():
        row |= {f"{metric}_{part}": getattr(measured, part) for part in ("value", "low", "high")}
        row[f"{metric}_absent"] = measured.absent or measured.too_few
        for against, found in line["p"].items():
            p = found.get(metric, Estimate())
            row |= {f"{metric}_p_{against}": p.value, f"{metric}_p_{against}_holm": p.holm}
    return row
