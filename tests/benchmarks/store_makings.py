"""What the benchmarks of the store write: full-size spaces, volumes named as in the bucket, random numbers."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from embeddings_store.grid import Grid
from embeddings_store.schema import (
    FACT_COLUMNS,
    Eye,
    Intensity,
    Note,
    ParticipantId,
    RowFacts,
    SpacingSource,
    VolumeRef,
    site_of,
    volume_id,
)
from embeddings_store.snapshot_files import SnapshotFiles
from embeddings_store.space import EmbeddingSpace
from extract.preset import PRESETS

WIDTH, POOLS = 768, ("mean", "max", "std")
FULL_GRID: Grid = (16, 24, 24)
FACTS = RowFacts(
    512, 496, 512, (0.0114, 0.00387, 0.0114), Eye.RIGHT, Note.SYNTHETIC, SpacingSource.SHARED,
    Intensity(40.0, 30.0, 2.0, 31.0, 160.0),
)  # fmt: skip
WORKER = {"device": "cpu", "versions": {}}


def make_space(grid: Grid | None, pools: tuple[str, ...] = POOLS) -> EmbeddingSpace:
    return EmbeddingSpace(
        family="vjepa3d", weights_sha256="0" * 64, image_size=(64, 384, 384), patch=(4, 16, 16), width=WIDTH, depth=12,
        heads=12, preset=PRESETS["pretrain"].to_dict(), layers=("last",), pools=pools, token_grid=grid,
        precision="fp32",
    )  # fmt: skip


def make_ref(row: int) -> VolumeRef:
    key = f"retinal_oct/structural_oct/heidelberg_spectralis/{row:06d}.dcm"
    person = ParticipantId(str(1000 + row // 16))
    eye = Eye.RIGHT if row % 2 else Eye.LEFT
    etag = sha256(key.encode()).hexdigest()[:32]
    return VolumeRef(
        key, 130_000_000, etag, volume_id(key), person, eye, "heidelberg_spectralis", "spectralis_ppol_mac_hr"
    )


def snapshot_files(
    vectors: np.ndarray, space: EmbeddingSpace, refs: Sequence[VolumeRef] | None = None
) -> SnapshotFiles:
    """Lay out what a snapshot of this many committed rows holds."""
    refs = [make_ref(row) for row in range(len(vectors))] if refs is None else refs
    columns: dict[str, Any] = {"row": np.arange(len(refs))}
    for name in ("key", "size", "etag", "volume", "participant", "eye", "device", "protocol"):
        columns[name] = [getattr(ref, name) for ref in refs]
    columns["eye"] = [str(eye) for eye in columns["eye"]]
    columns["site"] = [site_of(ref.participant, ref.site) for ref in refs]
    facts = np.random.default_rng(2).random((len(refs), len(FACT_COLUMNS)))
    columns |= {"eye_in_file" if name == "eye" else name: facts[:, i] for i, name in enumerate(FACT_COLUMNS)}
    table = pd.DataFrame(columns)
    attributes = {
        "space": space.to_dict(),
        "space_id": space.id,
        "fingerprint": "bench",
        "columns": list(table.columns),
    }
    return SnapshotFiles(vectors, table, space.layers, space.pools, attributes)
