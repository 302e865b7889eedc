"""Small spaces, volumes and rows for the tests of the store; a row's numbers follow from its number alone."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from obstore.store import MemoryStore

from embeddings_store.errors import StoreError
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeFailure, VolumeRef, volume_id
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage
from embeddings_store.writer import StoreWriter

SPACE = EmbeddingSpace(
    family="vjepa3d",
    weights_sha256="a" * 64,
    image_size=(32, 96, 96),
    patch=(4, 16, 16),
    width=6,
    depth=4,
    heads=3,
    preset={"name": "pretrain", "percentiles": (1, 99)},
    layers=("2", "last"),
    pools=("mean", "max", "std"),
    token_grid=(2, 3, 4),
    precision="fp32",
)
POOLED_ONLY = replace(SPACE, token_grid=None, layers=("last",))
WORKER = {"device": "cpu", "versions": {"octprobe": "0.1.0"}, "commit": "abc"}
FAILURE = VolumeFailure(stage="decode", error="BadPixels", message="expected 128 frames, got 7", attempts=2)
DEVICES = ("Spectralis", "Cirrus", "Triton")


def make_ref(number: int, *, size: int | None = None, etag: str = "") -> VolumeRef:
    """Make a volume: sites, devices and eyes alternate."""
    key = f"retinal_oct/{number}.dcm"
    participant = ParticipantId(f"{(1, 4, 7)[number % 3]}{number:03d}")
    eye = (Eye.LEFT, Eye.RIGHT)[number % 2]
    chosen = 1000 + number if size is None else size
    return VolumeRef(key, chosen, etag, volume_id(key), participant, eye, DEVICES[number % 3], "macula")


def make_refs(count: int) -> list[VolumeRef]:
    return [make_ref(number) for number in range(count)]


def pooled_of(row: int, space: EmbeddingSpace = SPACE) -> np.ndarray:
    shape = (len(space.layers), len(space.pools), space.width)
    return np.random.default_rng(row).standard_normal(shape).astype(np.float32)


def tokens_of(row: int, space: EmbeddingSpace = SPACE) -> dict[str, np.ndarray]:
    if space.token_grid is None:
        return {}
    rng = np.random.default_rng(1000 + row)
    return {layer: rng.standard_normal((*space.token_grid, space.width)).astype(np.float16) for layer in space.layers}


def facts_of(row: int) -> RowFacts:
    return RowFacts(8 + row, 40, 41, None if row % 2 else (0.1, 0.004, 0.01), Eye.RIGHT, Note.NO_SPACING)


def thumbnail_of(row: int) -> np.ndarray:
    return np.random.default_rng(2000 + row).integers(0, 256, (8, 32, 32), dtype=np.uint8)


def write_rows(writer: StoreWriter, rows: Iterable[int]) -> None:
    for row in rows:
        size = 1000 + row
        writer.write_row(
            row, pooled_of(row, writer.space), tokens_of(row, writer.space), facts_of(row), bytes(range(16)), size,
            thumbnail_of(row),
        )  # fmt: skip


def memory_storage() -> Storage:
    return Storage("memory://test", MemoryStore())


@dataclass(frozen=True, slots=True)
class ReadOnlyStorage(Storage):
    """A place that refuses every change, as a read-only mount or a read-only key does."""

    def put(self, path: str, *parts: Any) -> None:
        raise StoreError(f"cannot write in the store {self.url}: permission denied")

    def delete(self, path: str) -> None:
        raise StoreError(f"cannot delete in the store {self.url}: permission denied")


@dataclass(frozen=True, slots=True)
class CutOffStorage(Storage):
    """A place that stops answering after a number of changes, as a killed process does."""

    left: list[int] = field(default_factory=lambda: [0])

    def put(self, path: str, *parts: Any) -> None:
        self._spend()
        Storage.put(self, path, *parts)

    def delete(self, path: str) -> None:
        self._spend()
        Storage.delete(self, path)

    def _spend(self) -> None:
        self.left[0] -= 1
        if self.left[0] < 0:
            raise StoreError("cut off")
