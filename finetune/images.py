"""Preprocessed volumes on disk, so that an epoch does not fetch and decode again."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from math import prod
from pathlib import Path
from threading import get_ident
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Eye, Note, RowFacts, VolumeRef
from extract.load import LoadedVolume

_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile)


@dataclass(frozen=True)
class ImageCache:
    """A folder with one file a volume: the exact float32 input of the encoder, and what was noted about the volume.

    recipe: everything besides the object itself that changes the voxels, as text. The files are uncompressed .npz,
    whose checksums find damage. An object that changes without a size or etag in the listing is not noticed.
    """

    folder: Path
    recipe: str
    paths: dict[str, Path] = field(default_factory=dict)

    def read(self, line: IndexRow) -> LoadedVolume | None:
        """Give a volume that an earlier run kept, or None."""
        path = self._path(line.ref)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                frames, rows, columns, notes = kept["facts"].tolist()
                facts = RowFacts(frames, rows, columns, None, Eye.UNKNOWN, Note(notes))
                volume = LoadedVolume(line, kept["image"], facts, b"", line.ref.size)
        except _DAMAGED:
            return None
        self.paths[line.ref.volume] = path
        return volume

    def write(self, volume: LoadedVolume) -> None:
        """Keep a volume; the file appears complete or not at all. Raises RunError where it cannot be written."""
        path, facts = self._path(volume.line.ref), volume.facts
        aside = path.with_name(f".{path.name}.{get_ident():x}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                kept = np.array([facts.frames, facts.rows, facts.columns, int(facts.notes)])
                np.savez(file, image=volume.image, facts=kept)
            aside.replace(path)
        except OSError as error:
            with suppress(OSError):
                aside.unlink()
            raise RunError(
                f"--cache-dir {self.folder}: a preprocessed volume cannot be written: {error.strerror}; choose another"
            ) from error
        self.paths[volume.line.ref.volume] = path

    def stack(self, volumes: Sequence[str]) -> Float32[np.ndarray, "b 1 D H W"]:
        """Read volumes by their ids, in order. Raises RunError where a file is gone or damaged."""
        return np.stack([self._image(volume) for volume in volumes])

    def require_room(self, refs: Sequence[VolumeRef], image_size: tuple[int, int, int]) -> None:
        """Refuse to begin what the disk cannot hold: 38 MB a volume of 64x384x384. Raises RunError."""
        missing = sum(not self._path(ref).is_file() for ref in refs)
        needed = missing * 4 * prod(image_size)
        place = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise RunError(
                f"--cache-dir {self.folder}: {missing:,} preprocessed volumes need {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free; choose another --cache-dir, or --limit the volumes"
            )

    def _image(self, volume: str) -> Float32[np.ndarray, "1 D H W"]:
        try:
            with self.paths[volume].open("rb") as file, np.load(file, allow_pickle=False) as kept:
                image: np.ndarray = kept["image"]
        except _DAMAGED as error:
            raise RunError(
                f"--cache-dir {self.folder}: the preprocessed volume {volume} is gone or damaged "
                f"({type(error).__name__}); run the same command again"
            ) from error
        return image

    def _path(self, ref: VolumeRef) -> Path:
        made_of = f"{self.recipe}\n{ref.key}\n{ref.size}\n{ref.etag}"
        return self.folder / f"{ref.volume}-{sha256(made_of.encode()).hexdigest()[:16]}.npz"
