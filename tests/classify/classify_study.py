"""A small study with a known truth: embeddings of participants, and their participants.tsv."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.cohort.tasks import STUDY_GROUPS
from embeddings_store.schema import Eye, Note, RowFacts, VolumeRef, site_of, volume_id
from embeddings_store.snapshot import Snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.thumbnails import Thumbnails
from embeddings_store.writer import open_writer

PROTOCOLS = (("heidelberg_spectralis", "spectralis_ppol_mac_hr"), ("topcon_triton", "triton_macula_6x6"))
SITE_DIGITS = {"UW": "1", "UCSD": "4", "UAB": "7"}
CHANNELS = 6


@dataclass
class Study:
    """What a bucket and its embeddings would look like: raw columns of participants.tsv, and the store's rows."""

    people: pd.DataFrame
    stored: Snapshot

    def write(self, folder: Path) -> Path:
        path = folder / "participants.tsv"
        self.people.to_csv(path, sep="\t", index=False)
        return path


def space() -> EmbeddingSpace:
    return EmbeddingSpace(
        family="vjepa3d",
        weights_sha256="0" * 64,
        image_size=(8, 16, 16),
        patch=(4, 4, 4),
        width=CHANNELS,
        depth=2,
        heads=2,
        preset={"name": "pretrain"},
        layers=("1", "last"),
        pools=("mean", "max"),
        token_grid=None,
        precision="fp32",
    )


def make_people(participants: int, rng: np.random.Generator) -> pd.DataFrame:
    """Deal classes and splits in turn, so that each split holds every class; ages are drawn for everybody alike."""
    sites = np.array(list(SITE_DIGITS))[rng.integers(0, 3, participants)]
    numbers = np.arange(participants)
    return pd.DataFrame(
        {
            "participant_id": [f"{SITE_DIGITS[site]}{number:03d}" for site, number in zip(sites, numbers, strict=True)],
            "clinical_site": sites,
            "study_group": [STUDY_GROUPS[number % 4] for number in numbers],
            "age": rng.integers(40, 80, participants).astype(str),
            "study_visit_date": "2023-08-01",
            "recommended_split": [("train", "train", "val", "test")[number // 4 % 4] for number in numbers],
            "retinal_oct": "TRUE",
        }
    )


def make_study(participants: int = 64, *, effect: float = 0.0, scans: int = 1, seed: int = 0) -> Study:
    """Make embeddings in which protocol and participant vary a lot and the study group by ``effect`` a class step."""
    rng = np.random.default_rng(seed)
    people = make_people(participants, rng)
    rows, vectors = [], []
    for person in people.itertuples():
        own = rng.normal(0, 0.5, CHANNELS)
        own[0] += effect * STUDY_GROUPS.index(person.study_group)
        for eye in "LR":
            for number, (device, protocol) in enumerate(PROTOCOLS * scans):
                key = f"{device}/{person.participant_id}/{protocol}_{eye}_{number}.dcm"
                rows.append((key, person.participant_id, eye, device, protocol))
                vectors.append(own + 20.0 * (device == PROTOCOLS[0][0]) + rng.normal(0, 0.5, CHANNELS))
    index = pd.DataFrame(rows, columns=["key", "participant", "eye", "device", "protocol"])
    index = index.assign(
        row=np.arange(len(index)),
        size=1000,
        etag="",
        volume=[volume_id(key) for key in index["key"]],
        site=[site_of(person) for person in index["participant"]],
        notes=int(Note.SYNTHETIC),
    )
    last = np.stack(vectors)
    pooled = np.stack([np.stack([last * 0, last * 0], 1), np.stack([last, last + 1], 1)], 1).astype(np.float32)
    return Study(people, Snapshot(pooled, index, space(), 1, ("1", "last"), ("mean", "max"), "snapshot", "snapshot 1"))


def hold_out_little(patch: pytest.MonkeyPatch) -> None:
    """Hold out a third of train at a time, in place of a tenth, for a calibrator that the test does not look at."""
    for place in ("fitting.model", "evaluating.predict_split"):
        patch.setattr(f"classify.{place}.HELD_OUT_FOLDS", 3)


def fill_store(study: Study, url: Path) -> None:
    """Put the vectors of a study into a real store."""
    index = study.stored.index
    refs = [
        VolumeRef(line.key, 1000, "", line.volume, line.participant, Eye(line.eye), line.device, line.protocol)
        for line in index.itertuples()
    ]
    writer = open_writer(str(url), study.stored.space, capacity=1000, worker={"device": "test"})
    writer.add_volumes(refs)
    facts = RowFacts(8, 16, 16, None, Eye.UNKNOWN, Note.SYNTHETIC | Note.NO_SPACING)
    place, seen = {key: number for number, key in enumerate(index["key"])}, study.stored.thumbnails
    for line in writer.missing_rows():
        number = place[line.ref.key]
        picture = seen.images[number] if seen is not None and seen.known[number] else None
        writer.write_row(line.row, study.stored.pooled[number], {}, facts, bytes(16), 1000, picture)


def pictured(study: Study, *, effect: float, seed: int = 0, known: float = 1.0) -> Study:
    """Give every volume a thumbnail: a person's own texture, the device's shade, and a lesion that grows by class.

    effect: grey levels a class step. known: share of the volumes, the first ones, that have a thumbnail.
    """
    rng = np.random.default_rng(seed)
    index = study.stored.index
    step = study.people.set_index("participant_id")["study_group"].map(list(STUDY_GROUPS).index)
    own = {person: rng.normal(0, 20, (8, 32, 32)) for person in step.index}
    images = np.zeros((len(index), 8, 32, 32), np.uint8)
    there = np.arange(len(index)) < known * len(index)
    for place in np.flatnonzero(there):
        person, device = index["participant"][place], index["device"][place]
        grey = 60.0 + own[person] + rng.normal(0, 15, (8, 32, 32)) + 40 * (device == PROTOCOLS[0][0])
        grey[3:5, 12:20, 12:20] += effect * step[person]
        images[place] = np.clip(grey, 0, 255)
    return Study(study.people, replace(study.stored, thumbnails=Thumbnails(images, there)))
