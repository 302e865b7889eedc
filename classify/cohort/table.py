"""The analysed volumes with their labels: what a probe is fitted on and judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pandas as pd
from jaxtyping import Int64

from classify.cohort.splits import SPLITS
from classify.cohort.tasks import Task
from classify.run.record import FlowStep, SplitSize
from embeddings_store.thumbnails import Thumbnails

COLUMNS = ("volume", "participant", "eye", "device", "protocol", "site", "age", "label", "split")

BRIGHTNESS = ("intensity_mean", "intensity_sd", "intensity_p01", "intensity_p50", "intensity_p99")
"""How bright each scan is, in stored units: columns of the store's index."""

FACTS = ("frames", "rows", "columns", "spacing_frame_mm", "spacing_axial_mm", "spacing_lateral_mm")
"""What a device decides about a scan: columns of the store's index."""


@dataclass(frozen=True)
class Cohort:
    """The analysed volumes with their labels, sorted by participant and volume.

    table: COLUMNS, one line a volume; age in years (NaN: missing), label: number of the class in task.classes.
    position: where each volume's vector lies in the snapshot's pooled array. flow: from store rows to analysed.
    brightness: volume and BRIGHTNESS (NaN: the store does not know it). clinical: participant, hba1c and bmi, one line
    each, where measurements were given. facts: volume and those of FACTS that the store knows. thumbnails: one a line
    of table (see all_known), None where the store has none. All four are no part of table, so that nothing is fitted on
    them by accident.
    """

    table: pd.DataFrame
    position: Int64[np.ndarray, " n"]
    task: Task
    phantom: bool
    flow: list[FlowStep] = field(default_factory=list)
    brightness: pd.DataFrame | None = None
    clinical: pd.DataFrame | None = None
    facts: pd.DataFrame | None = None
    thumbnails: Thumbnails | None = None

    @property
    def sha256(self) -> str:
        """Digest of the table: equal when the same volumes carry the same labels and splits."""
        return sha256(self.table.to_csv(index=False, float_format="%.6g").encode()).hexdigest()

    def people(self, split: str) -> pd.DataFrame:
        """One line a participant of a split: participant, site, age, label, protocols ("device/protocol|...").

        And, where measurements were given, hba1c and bmi.
        """
        part = self.table[self.table["split"] == split]
        scanned = (part["device"] + "/" + part["protocol"]).groupby(part["participant"])
        protocols = scanned.agg(lambda names: "|".join(sorted(set(names)))).rename("protocols")
        people = part.drop_duplicates("participant")[["participant", "site", "age", "label"]]
        people = people.join(protocols, on="participant").reset_index(drop=True)
        return people if self.clinical is None else people.merge(self.clinical, on="participant", how="left")

    def measured(self) -> pd.DataFrame:
        """Table with hba1c and bmi of each volume's participant, for probes of what the embedding knows."""
        return self.table if self.clinical is None else self.table.merge(self.clinical, on="participant", how="left")

    def sizes(self) -> dict[str, SplitSize]:
        """Count participants, eyes, volumes and participants per class in each split."""
        return {split: self._size(split) for split in SPLITS}

    def class_weights(self, *, balanced: bool) -> dict[str, float]:
        """Tell what a participant of each class weighs in fitting: the classes alike, or everybody one."""
        per_class = self._size("train")["per_class"]
        if not balanced:
            return dict.fromkeys(per_class, 1.0)
        people = sum(per_class.values())
        return {name: people / (len(per_class) * count) for name, count in per_class.items()}

    def _size(self, split: str) -> SplitSize:
        part = self.table[self.table["split"] == split]
        labels = self.people(split)["label"]
        return {
            "participants": int(part["participant"].nunique()),
            "eyes": len(part.drop_duplicates(["participant", "eye"])),
            "volumes": len(part),
            "per_class": {name: int((labels == number).sum()) for number, name in enumerate(self.task.classes)},
        }


def insert_notes(flow: Sequence[FlowStep], notes: Sequence[FlowStep]) -> list[FlowStep]:
    """Put notes before the line of the analysed volumes, where the other notes stand."""
    place = next((number for number, step in enumerate(flow) if step["step"] == "analysed"), len(flow))
    return [*flow[:place], *notes, *flow[place:]]
