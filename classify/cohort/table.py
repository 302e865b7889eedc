"""The analysed volumes with their labels: what a probe is fitted on and judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from zlib import crc32

import numpy as np
import pandas as pd
from jaxtyping import Int64, Shaped

from classify.cohort.questions import Task
from classify.cohort.splits import OUT_OF_FOLD, SPLITS
from classify.cohort.units import name_units
from classify.run.record import FlowStep, SplitSize
from embeddings_store.thumbnails import Thumbnails

COLUMNS = ("volume", "participant", "eye", "device", "protocol", "site", "age", "label", "split")

BRIGHTNESS = ("intensity_mean", "intensity_sd", "intensity_p01", "intensity_p50", "intensity_p99")
"""How bright each scan is, in stored units: columns of the store's index."""

NOT_IN = "not_in"
"""Column of an index of several stores: those that have no vector of the row, with commas; "" where all have one."""

FACTS = ("frames", "rows", "columns", "spacing_frame_mm", "spacing_axial_mm", "spacing_lateral_mm")
"""What a device decides about a scan: columns of the store's index."""

FILE_TYPE = "file_type"
"""Of a scan's key: a number for its ending, the same in every cohort, so that one can be judged by another's model."""


@dataclass(frozen=True)
class Cohort:
    """The analysed volumes with their labels, sorted by participant and volume.

    table: COLUMNS, one line a volume; age in years (NaN: missing), label: number of the class in task.classes, or the
    number that is asked for. named: volume, group (the target as it is written) and the covariates of the task.
    position: where each volume's vector lies in the snapshot's pooled array. flow: from store rows to analysed.
    brightness: volume and BRIGHTNESS (NaN: the store does not know it). clinical: participant, hba1c and bmi, one line
    each, where measurements were given. facts: volume and those of FACTS that the store knows. thumbnails: one a line
    of table (see all_known), None where the store has none. folds: volume and fold ("": not known yet) of a
    cross-validation, whose people are all train, but for those of test, who are locked. All six are no part of table,
    so that nothing is fitted on them by accident.
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
    named: pd.DataFrame | None = None
    folds: pd.DataFrame | None = None
    _units: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Digest of the table: equal when the same volumes carry the same labels and splits."""
        return sha256(self.table.to_csv(index=False, float_format="%.6g").encode()).hexdigest()

    @property
    def groups(self) -> pd.DataFrame:
        """Volume and group: the target as it is written, where the labels are known."""
        return pd.DataFrame({"volume": [], "group": []}) if self.named is None else self.named[["volume", "group"]]

    @property
    def unit(self) -> Shaped[np.ndarray, " n"]:
        """Name of the judged unit (participant, eye or volume) of each line of table."""
        columns = (self.table[name].to_numpy(str) for name in ("participant", "eye", "volume"))
        return name_units(self.task.judged, *columns)

    def units(self, split: str) -> pd.DataFrame:
        """One line a judged unit of a split: unit, participant, site, age, label, protocols ("device/protocol|...").

        And the covariates of the task and, where measurements were given, hba1c and bmi.
        """
        if split not in self._units:
            self._units[split] = self._list_units(split)
        return self._units[split].copy()

    def _list_units(self, split: str) -> pd.DataFrame:
        table = self.table.assign(unit=self.unit)
        part = table[table["split"] == split]
        scanned = (part["device"] + "/" + part["protocol"]).groupby(part["unit"])
        protocols = scanned.agg(lambda names: "|".join(sorted(set(names)))).rename("protocols")
        wanted = ["unit", "participant", "site", "age", "label"]
        if self.named is not None:
            part = part.merge(self.named.drop(columns=["group", *wanted], errors="ignore"), on="volume", how="left")
            wanted += [str(name) for name in self.named if name not in ("volume", "group", *wanted)]
        units = part.drop_duplicates("unit")[wanted].join(protocols, on="unit").reset_index(drop=True)
        return units if self.clinical is None else units.merge(self.clinical, on="participant", how="left")

    def measured(self) -> pd.DataFrame:
        """Table with hba1c and bmi of each volume's participant, for probes of what the embedding knows."""
        return self.table if self.clinical is None else self.table.merge(self.clinical, on="participant", how="left")

    def said(self, splits: Sequence[str] = SPLITS) -> list[str]:
        """Say what is asked, of whom, and how many units of each class each split has."""
        task = self.task
        what = "a number" if task.is_number else f"{task.kind}, {' | '.join(task.classes)}"
        positive = f" (to be found: {task.classes[1]})" if task.kind == "binary" else ""
        lines = [f"task {task.name}: {task.target}, {what}{positive}; judged by {task.level}"]
        for split in splits if self.folds is None else ("train", "test"):
            labels = self.units(split)["label"]
            if task.is_number:
                told = f"{labels.min():g} to {labels.max():g}, mean {labels.mean():g}" if len(labels) else "nobody"
            else:
                told = ", ".join(f"{int((labels == n).sum())} {name}" for n, name in enumerate(task.classes))
            name = "in folds" if self.folds is not None and split == "train" else split
            lines.append(f"  {name}: {len(labels)} {task.units}: {told}")
        return lines

    def sizes(self, splits: Sequence[str] = SPLITS) -> dict[str, SplitSize]:
        """Count participants, eyes, volumes and judged units per class in each split."""
        found = {split: self._size(split) for split in splits}
        return found if self.folds is None else found | {OUT_OF_FOLD: found["train"]}

    def class_weights(self, *, balanced: bool) -> dict[str, float]:
        """Tell what a participant of each class weighs in fitting: the classes alike, or everybody one."""
        per_class = self._size("train").get("per_class", {})
        if not balanced:
            return dict.fromkeys(per_class, 1.0)
        people = sum(per_class.values())
        return {name: people / (len(per_class) * count) for name, count in per_class.items()}

    def _size(self, split: str) -> SplitSize:
        part = self.table[self.table["split"] == split]
        units = self.units(split)
        found: SplitSize = {
            "participants": int(part["participant"].nunique()),
            "eyes": len(part.drop_duplicates(["participant", "eye"])),
            "volumes": len(part),
        }
        if not self.task.is_number:
            of_class = [units.loc[units["label"] == number, "participant"] for number in range(len(self.task.classes))]
            found["per_class"] = {name: len(of) for name, of in zip(self.task.classes, of_class, strict=True)}
            own = {name: int(of.nunique()) for name, of in zip(self.task.classes, of_class, strict=True)}
            if own != found["per_class"]:
                found["participants_per_class"] = own
        return found


def insert_notes(flow: Sequence[FlowStep], notes: Sequence[FlowStep]) -> list[FlowStep]:
    """Put notes before the line of the analysed volumes, where the other notes stand."""
    place = next((number for number, step in enumerate(flow) if step["step"] == "analysed"), len(flow))
    return [*flow[:place], *notes, *flow[place:]]


def facts_of(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Take what the store says of the geometry and file type of scans; a table that never saw a file says nothing."""
    known = [name for name in FACTS if name in rows.columns]
    if not known:
        return None
    found = rows[["volume", *known]].reset_index(drop=True)
    if "key" not in rows.columns:
        return found
    ending = (
        rows["key"].astype(str).str.lower().str.extract(r"\.([a-z][a-z0-9]{0,7}(?:\.gz)?)$", expand=False).fillna("")
    )
    number = {one: float(crc32(one.encode()) % 997) for one in set(ending)}
    return found.assign(**{FILE_TYPE: ending.map(number).to_numpy()})
