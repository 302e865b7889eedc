"""A fine-tuned model without its bucket: what the run recorded of a participant, beside the thumbnails of a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from classify.cohort.identity import mark_volumes, other_objects
from classify.evaluating.prediction_table import lay_out, mark_abstentions
from classify.fitting.aggregate import aggregate_levels
from classify.judging.kept_calibrator import read_calibrator
from classify.predict import ABSTAIN_BELOW, PREDICTED
from classify.reference.flags import SAID_OF_NOTE, UNSEEN_DEVICE, UNSEEN_PROTOCOL
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.run.predictions import Predictions, levels_of
from embeddings_store.errors import RunError, UsageError
from embeddings_store.schema import Note, VolumeRef
from embeddings_store.snapshot import Snapshot
from reports.anatomy.scan import scan_geometry
from reports.cases.answer import likeliest, of_unit
from reports.cases.explained import Explained
from reports.cases.scans import NO_BUCKET, ScanCase
from reports.cases.sources import ref_of
from reports.runs import FinishedRun


@dataclass(frozen=True)
class RecordedExplainer:
    """A run of finetune, and a store of the same volumes, whatever encoder made it."""

    run: FinishedRun
    snapshot: Snapshot

    def volumes_of(self, participant: str) -> pd.DataFrame:
        """Return what the run recorded of a participant: nothing of somebody new."""
        cohort = self.run.run.cohort
        return cohort[cohort["participant"] == participant]

    def explain(self, participant: str, unit: str) -> Explained:
        """Show what the run predicted for each volume of a unit; nothing is computed, so nothing says where.

        Raises: UsageError where the run predicted nothing; RunError where the store has not these very volumes.
        """
        recorded, cohort = self.run.run.predictions, self.run.run.cohort
        of_volumes = (recorded["level"] == "volume") & (recorded["model"] == self.run.model)
        own = recorded[of_volumes & (recorded["participant"] == participant)].drop_duplicates("unit")
        if own.empty:
            raise UsageError(
                f"participant {participant}: the run {self.run.id} recorded no prediction; with --bucket the model "
                "reads the volumes again"
            )
        stored = self.snapshot.index.reset_index(drop=True)
        places = {str(volume): place for place, volume in enumerate(stored["volume"])}
        self._require_stored(own["unit"], places)
        lines = stored.iloc[[places[unit] for unit in own["unit"]]]
        split = str(cohort.loc[cohort["participant"] == participant, "split"].iloc[0])
        described = [
            describe_volume(self.run, ref_of(line), Note(int(line["notes"])), split, ()) for _, line in lines.iterrows()
        ]
        table = predict_table(self.run, self._predictions(own), lines["eye"].to_numpy(str), described)
        probability, target = likeliest(table, unit, self.run.classes)
        shown = lines[of_unit(lines, self.run.level, unit)]
        return Explained(table, probability, target, [self._scan(place, line) for place, line in shown.iterrows()])

    def _require_stored(self, units: "pd.Series[str]", places: dict[str, int]) -> None:
        missing = [unit for unit in units if unit not in places]
        if not missing:
            here = self.snapshot.where(self.snapshot.index["volume"].isin(set(units)).to_numpy())
            missing = sorted(other_objects(mark_volumes(here), self.run.run.cohort, same_space=False))
        if missing:
            raise RunError(
                f"volume {missing[0]}: the store does not hold it, or another object under its key; is --store of the "
                "bucket that the run read?"
            )

    def _predictions(self, own: pd.DataFrame) -> Predictions:
        columns = range(len(self.run.classes))
        probability, logits = (
            own[[f"{name}_{number}" for number in columns]].to_numpy(np.float64) for name in ("probability", "logit")
        )
        unit, participant = (own[name].to_numpy(str) for name in ("unit", "participant"))
        return Predictions(
            self.run.model, "volume", PREDICTED, unit, participant, np.full(len(own), -1), logits, probability
        )

    def _scan(self, place: Any, line: pd.Series) -> ScanCase:
        told, known = {str(name): value for name, value in line.items()}, self.snapshot.thumbnails
        thumbnail = known.images[place] if known is not None and known.known[place] else None
        why = f"{NO_BUCKET}, and a fine-tuned model explains the volumes that it reads"
        return ScanCase(told, scan_geometry(told), None, why, None, NO_BUCKET, None, thumbnail)


def predict_table(
    run: FinishedRun, volumes: Predictions, eye: Shaped[np.ndarray, " n"], lines: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Say what each volume, eye and the participant get, as ``classify predict`` says it of stored vectors.

    lines: of describe_volume, a line a volume, also of those that could not be read.
    """
    levels = aggregate_levels(volumes, eye, judged=run.level)
    if calibrator := read_calibrator(run.run.model_folder(), len(run.classes)):
        levels = {level: calibrator.apply(part) for level, part in levels.items()}
    told = pd.DataFrame(lines)
    table = pd.concat([lay_out(level, levels[level], told, run.classes) for level in levels_of(run.task)])
    return mark_abstentions(table.reset_index(drop=True), abstain_below=ABSTAIN_BELOW, percentile=THRESHOLD_PERCENTILE)


def describe_volume(
    run: FinishedRun, ref: VolumeRef, notes: Note, split: str, flagged: Sequence[str], *, withheld: str = ""
) -> dict[str, Any]:
    """Give a volume's line of the prediction table; a fine-tuned run keeps no training vectors to call it novel by."""
    train = run.run.cohort[run.run.cohort["split"] == "train"]
    unseen = [
        said
        for said, new in (
            (UNSEEN_PROTOCOL, ref.protocol not in set(train["protocol"])),
            (UNSEEN_DEVICE, ref.device not in set(train["device"])),
        )
        if new
    ]
    flags = [said for note, said in SAID_OF_NOTE.items() if notes & note]
    return {
        "volume": str(ref.volume),
        "participant": str(ref.participant),
        "eye": str(ref.eye),
        "device": ref.device,
        "protocol": ref.protocol,
        "split_of_run": split,
        "flags": "; ".join([*flags, *flagged, *unseen]),
        "unlike": "; ".join(unseen),
        "withheld": withheld,
        "ood_distance": np.nan,
        "ood_percentile": np.nan,
    }
