"""A small real store of simulated vectors, with its participants table."""

from pathlib import Path

import numpy as np

from classify.cohort.tasks import STUDY_GROUPS
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeFailure, VolumeRef, volume_id
from embeddings_store.space import EmbeddingSpace
from embeddings_store.writer import open_writer

SPACE = EmbeddingSpace(
    family="vjepa3d",
    weights_sha256="cd" * 32,
    image_size=(8, 32, 32),
    patch=(4, 16, 16),
    width=12,
    depth=2,
    heads=2,
    preset={"name": "pretrain"},
    layers=("last",),
    pools=("mean", "std"),
    token_grid=None,
    precision="fp32",
)
SITES = {"1": "UW", "4": "UCSD", "7": "UAB"}


def build_store(folder: Path, participants: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """Write a store (two volumes a participant; one error, one not tried) and participants.tsv; give both paths."""
    rng = np.random.default_rng(seed)
    writer = open_writer(str(folder / "store"), SPACE, capacity=500, worker={"device": "cpu", "versions": {}})
    people = [f"{'147'[i % 3]}{i:03d}" for i in range(participants)]
    group_of = {person: int(rng.integers(4)) for person in people}
    refs = [_ref(person, eye) for person in people for eye in (Eye.LEFT, Eye.RIGHT)]
    writer.add_volumes([*refs, _ref("1998", Eye.LEFT), _ref("1999", Eye.LEFT)])
    facts = RowFacts(8, 32, 32, None, Eye.LEFT, Note.SYNTHETIC)
    for row, ref in enumerate(refs):
        vectors = rng.normal(size=(1, 2, 12)).astype(np.float32)
        vectors[0, 0, 0] += 0.7 * group_of[ref.participant]
        writer.write_row(row, vectors, {}, facts, bytes(16), 100)
    writer.write_error(len(refs), VolumeFailure("decode", "DecodeError", "no pixel data", 1))
    splits = ("train", "train", "train", "val", "test")
    lines = [
        f"{p}\t{SITES[p[0]]}\t{STUDY_GROUPS[group_of[p]]}\t{int(rng.integers(40, 80))}\t{splits[i % 5]}\tTRUE"
        for i, p in enumerate(people)
    ]
    header = "participant_id\tclinical_site\tstudy_group\tage\trecommended_split\tretinal_oct"
    (folder / "participants.tsv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "store", folder / "participants.tsv"


def _ref(person: str, eye: Eye) -> VolumeRef:
    key = f"retinal_oct/structural_oct/topcon_triton/{person}/{person}_triton_macula_6x6_oct_{eye.lower()}_1.dcm"
    return VolumeRef(key, 100, "", volume_id(key), ParticipantId(person), eye, "topcon_triton", "triton_macula_6x6")
