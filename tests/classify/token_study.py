"""A small study whose tokens tell: one place of each volume shows the study group, the mean over all hardly does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from classify_study import CHANNELS, Study, make_study, space

from classify.cohort.tasks import STUDY_GROUPS
from embeddings_store.schema import Eye, Note, RowFacts, VolumeRef
from embeddings_store.space import EmbeddingSpace
from embeddings_store.writer import open_writer

GRID = (2, 4, 4)
TELLING = (1, 2, 3)
LAYERS = ("1", "last")


def token_space() -> EmbeddingSpace:
    return replace(space(), token_grid=GRID)


def make_token_study(participants: int = 32, *, effect: float = 3.0, seed: int = 0) -> tuple[Study, np.ndarray]:
    """Give the study, and tokens [volumes, layers, 2, 4, 4, C] in the order of its store; layer 1 tells nothing."""
    rng = np.random.default_rng(seed)
    study = make_study(participants, seed=seed)
    index = study.stored.index
    group = study.people.set_index("participant_id")["study_group"].map(STUDY_GROUPS.index)
    tokens = rng.normal(size=(len(index), len(LAYERS), *GRID, CHANNELS)) + rng.normal(size=(*GRID, CHANNELS))
    tokens[:, 1, *TELLING, 0] += effect * group[index["participant"]].to_numpy()
    tokens = tokens.astype(np.float16)
    flat = tokens.reshape(len(index), len(LAYERS), -1, CHANNELS).astype(np.float32)
    pooled = np.stack([flat.mean(axis=2), flat.max(axis=2)], axis=2)
    return Study(study.people, replace(study.stored, pooled=pooled, space=token_space())), tokens


def fill_token_store(study: Study, tokens: np.ndarray, url: Path) -> None:
    index = study.stored.index
    refs = [
        VolumeRef(line.key, 1000, "", line.volume, line.participant, Eye(line.eye), line.device, line.protocol)
        for line in index.itertuples()
    ]
    writer = open_writer(str(url), study.stored.space, capacity=1000, worker={"device": "test"})
    writer.add_volumes(refs)
    facts = RowFacts(8, 16, 16, None, Eye.UNKNOWN, Note.SYNTHETIC | Note.NO_SPACING)
    place = {key: number for number, key in enumerate(index["key"])}
    for line in writer.missing_rows():
        number = place[line.ref.key]
        grids = dict(zip(LAYERS, tokens[number], strict=True))
        writer.write_row(line.row, study.stored.pooled[number], grids, facts, bytes(16), 1000)
