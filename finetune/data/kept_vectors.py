"""Vectors of the starting encoder on disk, so that a run that goes on encodes no volume again."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import RunError
from embeddings_store.numpy_file import read_numpy
from embeddings_store.publish import published
from embeddings_store.schema import VolumeRef

DAMAGED = (OSError, ValueError, EOFError)


@dataclass(frozen=True)
class KeptVectors:
    """A folder with one small file a volume. made_by: everything besides the object that decides the vector."""

    folder: Path
    made_by: str

    def read(self, ref: VolumeRef) -> Float32[np.ndarray, " C"] | None:
        """Give the vector of an object as it lies in the bucket now, or None; a damaged one is made again."""
        try:
            found: np.ndarray = read_numpy(self._path(ref))
        except DAMAGED:
            return None
        return found if found.ndim == 1 and found.dtype == np.float32 and np.isfinite(found).all() else None

    def write(self, ref: VolumeRef, vector: Float32[np.ndarray, " C"]) -> None:
        """Keep a vector; the file appears complete or not at all. Raises RunError where it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with published(self._path(ref), durable=False) as aside, aside.open("wb") as file:
                np.save(file, vector)
        except OSError as error:
            raise RunError(f"--runs: {self.folder} cannot be written: {error.strerror}; choose another") from error

    def _path(self, ref: VolumeRef) -> Path:
        made_of = f"{self.made_by}\n{ref.key}\n{ref.size}\n{ref.etag}\n{ref.reading}"
        return self.folder / f"{ref.volume}-{sha256(made_of.encode()).hexdigest()[:16]}.npy"
