"""The table of several targets on disk: ``<runs>/targets/<id>/`` with targets.json and targets.csv."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from classify.run.estimate import Estimate, Measures
from classify.run.published_folder import TARGETS, published_folder
from classify.run.record import Count, Open, SplitSize
from classify.run.typed_record import as_json, write_record
from embeddings_store.plain_text import for_spreadsheets

TABLE = "targets"


@dataclass(frozen=True)
class TargetLine:
    """One target: how its run did on val, and whether that is more than chance and than the hardest baseline.

    p: one-sided, by what it is compared with and metric; value, holm and of how many, or absent with the reason.
    """

    target: str
    run: str
    kind: str | None
    classes: list[str]
    level: str
    val: SplitSize
    metrics: Measures
    hardest_baseline: dict[str, str | None]
    difference_to_baselines: dict[str, Measures]
    p: dict[str, Measures]


@dataclass(frozen=True)
class AbsentTarget:
    """A target that could not be used, and why."""

    target: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TargetsRecord:
    """The record of several targets. id: of its folder."""

    id: str = ""
    created: str
    command: list[str]
    model: str
    split: str
    replicates: Count
    seed: int
    phantom: bool
    encoder_source: Open | None
    absent: list[AbsentTarget]
    targets: list[TargetLine]


def save_targets(runs: Path, record: TargetsRecord, now: datetime) -> Path:
    """Write record and table, and give the folder. Raises: RunFolderError where the runs cannot be written."""
    with published_folder(runs, TARGETS, now) as (aside, place):
        write_record(aside / f"{TABLE}.json", replace(record, id=place.name))
        rows = [row_of(line) for line in record.targets] + [as_json(gap) for gap in record.absent]
        for_spreadsheets(pd.DataFrame(rows)).to_csv(aside / f"{TABLE}.csv", index=False)
    return place


def row_of(line: TargetLine) -> dict[str, Any]:
    """Return one target as a row of plain columns."""
    row: dict[str, Any] = {name: getattr(line, name) for name in ("target", "run", "kind", "level")} | {"reason": ""}
    row["participants"] = line.val.get("participants")
    for metric, measured in line.metrics.items():
        row |= {f"{metric}_{part}": getattr(measured, part) for part in ("value", "low", "high")}
        row[f"{metric}_absent"] = measured.absent or measured.too_few
        for against, found in line.p.items():
            p = found.get(metric, Estimate())
            row |= {f"{metric}_p_{against}": p.value, f"{metric}_p_{against}_holm": p.holm}
    return row
