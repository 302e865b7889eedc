"""A fine-tuned model explains a participant: its volumes go through its encoder again."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from classify.cohort.identity import other_objects
from classify.predict import PREDICTED
from classify.reference.flags import OTHER_PERSON
from classify.run.predictions import Predictions
from embeddings_store.errors import RunError, UsageError, VolumeError
from embeddings_store.schema import Note, VolumeRef
from extract.bucket.catalogue import list_volumes
from extract.bucket.source import Source
from extract.errors import DeviceError
from extract.preprocess import frame_chooser, preprocess
from finetune.data.volumes import mark_listed
from finetune.model.checkpoint import load_classifier
from finetune.model.classifier import Classifier
from finetune.options import PRESET
from reports.anatomy.foveal_pit import find_foveal_pit
from reports.anatomy.regions import axial_bands, en_face_regions
from reports.anatomy.scan import volume_geometry
from reports.attribution.whole_model import WholeModel, explain_encoder, shuffle_blocks
from reports.cases.answer import likeliest, of_unit
from reports.cases.covered import frames_to_show, seen_by
from reports.cases.explained import UNIT_PARTS, Explained
from reports.cases.recorded import describe_volume, predict_table
from reports.cases.scans import ScanCase
from reports.cases.sources import FetchedScan, fetch_scan
from reports.runs import FinishedRun

REPRODUCES_WITHIN = 0.02
"""In probability: a run's recorded predictions may come from volumes that were kept with 256 levels."""


@dataclass(frozen=True)
class SeenVolume:
    """One volume of a participant, as a page shows it and as the encoder sees it."""

    ref: VolumeRef
    fetched: FetchedScan
    image: Float[Tensor, "1 1 D H W"]


@dataclass(frozen=True)
class UnreadVolume:
    """A volume that cannot be read, and why."""

    ref: VolumeRef
    why: str


@dataclass(frozen=True)
class FinetunedExplainer:
    """A run of finetune, its model on a device, the same with shuffled blocks, and the bucket of its volumes."""

    run: FinishedRun
    classifier: Classifier
    control: Classifier
    source: Source
    refs: list[VolumeRef]
    device: torch.device
    seed: int

    def volumes_of(self, participant: str) -> pd.DataFrame:
        """Return what the bucket holds of a participant."""
        own = [ref for ref in self.refs if str(ref.participant) == participant]
        return pd.DataFrame({name: [str(getattr(ref, name)) for ref in own] for name in UNIT_PARTS}, dtype=str)

    def explain(self, participant: str, unit: str) -> Explained:
        """Predict a participant's volumes, and explain each that can be read.

        Raises: UsageError where the bucket has none; RunError where none can be read, or they are not the run's.
        """
        asked = [self._see(ref) for ref in self.refs if str(ref.participant) == participant]
        seen = [one for one in asked if isinstance(one, SeenVolume)]
        unread = [one for one in asked if isinstance(one, UnreadVolume)]
        if not asked:
            raise UsageError(f"participant {participant}: the bucket holds no volume of this participant")
        if not seen:
            raise RunError(
                f"participant {participant}: none of {len(asked)} volumes can be read; the first: {unread[0].why}"
            )
        split, flags = self._standing([one.ref for one in asked])
        table = self._predict(seen, [self._describe(one, split, flags) for one in asked])
        probability, target = likeliest(table, unit, self.run.classes)
        lines = pd.DataFrame([{name: str(getattr(one.ref, name)) for name in UNIT_PARTS} for one in seen])
        shown = of_unit(lines, self.run.level, unit)
        scans = [self._explain(one, target) for one, here in zip(seen, shown, strict=True) if here]
        return Explained(table, probability, target, scans)

    def _describe(self, one: SeenVolume | UnreadVolume, split: str, flags: Sequence[str]) -> dict[str, Any]:
        if isinstance(one, UnreadVolume):
            return describe_volume(self.run, one.ref, Note.NONE, split, flags, withheld=one.why)
        return describe_volume(self.run, one.ref, one.fetched.volume.notes, split, flags)

    def _standing(self, refs: Sequence[VolumeRef]) -> tuple[str, list[str]]:
        """Give the split that a person has in the run, known by a volume, and what to flag where there is none."""
        cohort, listed = self.run.run.cohort, mark_listed(refs, self.source)
        others = other_objects(listed, cohort, same_space=True)
        split = cohort.loc[cohort["volume"].isin(set(listed["volume"]) - others), "split"]
        if len(split):
            return str(split.iloc[0]), []
        return "", [OTHER_PERSON] if cohort["participant"].isin(listed["participant"]).any() else []

    def _see(self, ref: VolumeRef) -> SeenVolume | UnreadVolume:
        size = self.classifier.image_size
        try:
            fetched = fetch_scan(self.source, ref, also=frame_chooser(PRESET, size[0]))
            image = preprocess(fetched.volume, PRESET, size)
        except VolumeError as error:
            return UnreadVolume(ref, f"{type(error).__name__}: {error}")
        return SeenVolume(ref, fetched, torch.from_numpy(image[None]).to(self.device))

    def _predict(self, seen: Sequence[SeenVolume], lines: list[dict[str, Any]]) -> pd.DataFrame:
        """Say what each volume, eye and the participant get, as ``classify predict`` says it of stored vectors."""
        with torch.inference_mode():
            logits = torch.cat([self._model(self.classifier, one.ref).logits(one.image) for one in seen])
        log_probability = logits.double().log_softmax(dim=1).cpu().numpy()
        volume, participant, eye = (
            np.array([str(getattr(one.ref, field)) for one in seen]) for field in ("volume", "participant", "eye")
        )
        label = np.full(len(seen), -1)
        volumes = Predictions(
            self.run.model, "volume", PREDICTED, volume, participant, label, log_probability, np.exp(log_probability)
        )
        self._require_same(volumes)
        return predict_table(self.run, volumes, eye, lines)

    def _require_same(self, volumes: Predictions) -> None:
        """Refuse volumes of which the run recorded something else. Raises: RunError."""
        recorded = self.run.run.predictions
        own = recorded[(recorded["level"] == "volume") & (recorded["model"] == self.run.model)].set_index("unit")
        columns = [f"probability_{number}" for number in range(len(self.run.classes))]
        for unit, probability in zip(volumes.unit, volumes.probability, strict=True):
            if unit in own.index and np.abs(own.loc[unit, columns] - probability).max() > REPRODUCES_WITHIN:
                raise RunError(
                    f"volume {unit}: the model gives other probabilities than the run recorded; is this its bucket?"
                )

    def _explain(self, one: SeenVolume, target: int) -> ScanCase:
        geometry = volume_geometry(one.fetched.volume, one.ref)
        pit = find_foveal_pit(one.fetched.spread, geometry)
        line = {"protocol": one.ref.protocol, "eye": str(one.ref.eye)}
        encoder = self.classifier.encoder.architecture
        try:
            seen = seen_by(PRESET, encoder.image_size, encoder.patch, encoder.grid, geometry)
        except UsageError as error:
            return ScanCase(line, geometry, None, str(error), one.fetched, "", pit)
        shown = frames_to_show(seen)
        fetched = one.fetched if shown is None else replace(one.fetched, numbers=shown)
        found = explain_encoder(
            self._model(self.classifier, one.ref),
            self._model(self.control, one.ref),
            one.image,
            target=target,
            en_face=partial(en_face_regions, geometry, centre_mm=pit, seen=seen),
            bands=partial(axial_bands, seen=seen),
            seed=self.seed,
        )
        return ScanCase(line, geometry, found, "", fetched, "", pit, seen=seen)

    def _model(self, classifier: Classifier, ref: VolumeRef) -> WholeModel:
        """Give a model as it treats volumes of this one's protocol."""
        return WholeModel(
            lambda volumes: classifier.logits(volumes, [ref.protocol] * len(volumes)).float(),
            classifier.blocks,
            classifier.token_grid,
        )


def open_finetuned(run: FinishedRun, source: Source, device: str) -> FinetunedExplainer:
    """Load a fine-tuned model, list the bucket, and make the control. device: cpu, cuda, or auto for the better one.

    Raises: RunError (CheckpointError, BucketError, DeviceError, a damaged run folder).
    """
    place, classifier, seed = _open_device(device), load_classifier(run.run), int(run.record.made.seeds["head"])
    classifier.model.to(place)
    control = replace(classifier, model=deepcopy(classifier.model))
    shuffle_blocks(control.blocks, np.random.default_rng(seed))
    return FinetunedExplainer(run, classifier, control, source, list_volumes(source).refs, place, seed)


def _open_device(name: str) -> torch.device:
    there = {"cpu": "cpu", "cuda": "cuda", "auto": "cuda" if torch.cuda.is_available() else "cpu"}
    if name not in there or (name == "cuda" and not torch.cuda.is_available()):
        known = "cpu, cuda or auto" if name not in there else "a GPU that torch can use, found none; leave --device out"
        raise DeviceError(f"--device {name}: expected {known}")
    return torch.device(there[name])
