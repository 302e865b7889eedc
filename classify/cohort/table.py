"""The analysed volumes with their labels: what a probe is fitted on and judged by."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from classify.cohort.splits import SPLITS
from classify.cohort.tasks import Task

COLUMNS = ("volume", "participant", "eye", "device", "protocol", "site", "age", "label", "split")

Step = dict[str, Any]
"""{"step", "kind": "total" | "excluded" | "note", "volumes", "participants", "reason"}: one line of the flow."""


@dataclass(frozen=True)
class Cohort:
    """The analysed volumes with their labels, sorted by participant and volume.

    table: COLUMNS, one line a volume; age in years (NaN: missing), label: number of the class in task.classes.
    position: where each volume's vector lies in the snapshot's pooled array. flow: from store rows to analysed.
    """

    table: pd.DataFrame
    position: Int64[np.ndarray, " n"]
    task: Task
    phantom: bool
    flow: list[Step] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Digest of the table: equal when the same volumes carry the same labels and splits."""
        return sha256(self.table.to_csv(index=False, float_format="%.6g").encode()).hexdigest()

    def people(self, split: str) -> pd.DataFrame:
        """One line a participant of a split: participant, site, age, label, protocols ("device/protocol|...")."""
        part = self.table[self.table["split"] == split]
        scanned = (part["device"] + "/" + part["protocol"]).groupby(part["participant"])
        protocols = scanned.agg(lambda names: "|".join(sorted(set(names)))).rename("protocols")
        people = part.drop_duplicates("participant")[["participant", "site", "age", "label"]]
        return people.join(protocols, on="participant").reset_index(drop=True)

    def sizes(self) -> dict[str, Any]:
        """Count participants, eyes, volumes and participants per class in each split."""
        return {split: self._size(split) for split in SPLITS}

    def _size(self, split: str) -> dict[str, Any]:
        part = self.table[self.table["split"] == split]
        labels = self.people(split)["label"]
        return {
            "participants": int(part["participant"].nunique()),
            "eyes": len(part.drop_duplicates(["participant", "eye"])),
            "volumes": len(part),
            "per_class": {name: int((labels == number).sum()) for number, name in enumerate(self.task.classes)},
        }
