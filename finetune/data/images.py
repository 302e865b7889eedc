"""Preprocessed volumes on disk, so that an epoch does not fetch and decode again."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, UInt8

from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.numpy_file import read_numpy
from embeddings_store.publish import published
from embeddings_store.schema import Eye, Intensity, Note, Reading, RowFacts, VolumeRef
from extract.load import LoadedVolume

_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile)

LEVELS = 255
BYTES_OF = {"uint8": 1, "float32": 4}
"""A voxel on disk. uint8 spreads 256 levels between the smallest and the largest voxel of a volume."""


UNSCALED = np.array([0, 1], np.float32)


@dataclass(frozen=True)
class ImageCache:
    """A folder with one file a volume: the encoder's input, and what was noted about the volume.

    recipe: everything besides the object itself that changes the voxels, as text. kind: of BYTES_OF; what is given
    back is float32, and with "uint8" rounded to a level. The files are uncompressed .npz, whose checksums find damage.
    An object that changes without a size or etag in the listing is not noticed.
    """

    folder: Path
    recipe: str
    kind: str = "uint8"
    paths: dict[str, Path] = field(default_factory=dict)

    def read(self, line: IndexRow) -> LoadedVolume | None:
        """Give a volume that an earlier run kept, or None."""
        path = self._path(line.ref)
        if not path.is_file():
            return None
        try:
            kept = read_numpy(path)
            volume = LoadedVolume(line, _unpack(kept), _read_facts(kept), b"", line.ref.size)
        except _DAMAGED:
            return None
        self.paths[line.ref.volume] = path
        return volume

    def write(self, volume: LoadedVolume) -> LoadedVolume:
        """Keep a volume, and give it as it will be read; the file appears complete or not at all.

        Raises RunError where it cannot be written.
        """
        path, facts = self._path(volume.line.ref), volume.facts
        packed = _PACK[self.kind](volume.image)
        arrays: dict[str, Any] = packed | {
            "facts": np.array([facts.frames, facts.rows, facts.columns, int(facts.notes)]),
            "brightness": np.array(astuple(facts.intensity) if facts.intensity else (), np.float64),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with published(path, durable=False) as aside:  # a damaged one is made again
                np.savez(aside, **arrays)
        except OSError as error:
            raise RunError(
                f"--cache-dir {self.folder}: a preprocessed volume cannot be written: {error.strerror}; choose another"
            ) from error
        self.adopt(volume.line.ref)
        return replace(volume, image=_unpack(packed))

    def adopt(self, ref: VolumeRef) -> None:
        """Take for granted that another process keeps this volume in the same folder."""
        self.paths[ref.volume] = self._path(ref)

    def stack(self, volumes: Sequence[str]) -> Float32[np.ndarray, "b 1 D H W"]:
        """Read volumes by their ids, in order. Raises RunError where a file is gone or damaged."""
        return np.stack([self.image(volume) for volume in volumes])

    def require_room(self, refs: Sequence[VolumeRef], image_size: tuple[int, int, int]) -> None:
        """Refuse to begin what the disk cannot hold: 9 MB a volume of 64x384x384 in uint8. Raises RunError."""
        missing = sum(not self._path(ref).is_file() for ref in refs)
        needed = missing * BYTES_OF[self.kind] * prod(image_size)
        place = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise RunError(
                f"--cache-dir {self.folder}: {missing:,} preprocessed volumes need {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free; choose another --cache-dir, or --limit the volumes"
            )

    def image(self, volume: str) -> Float32[np.ndarray, "1 D H W"]:
        """Read one volume by its id. Raises RunError where its file is gone or damaged."""
        stored, scale = self.stored(volume)
        return from_levels(stored, scale) if stored.dtype == np.uint8 else stored

    def stored(
        self, volume: str
    ) -> tuple[UInt8[np.ndarray, "1 D H W"] | Float32[np.ndarray, "1 D H W"], Float32[np.ndarray, " 2"]]:
        """Read one volume as it is kept, with its scale: see to_levels. Raises RunError as image does."""
        try:
            kept = read_numpy(self.paths[volume])
            return (kept["image"], UNSCALED) if "image" in kept else (kept["levels"], kept["scale"])
        except _DAMAGED as error:
            raise RunError(
                f"--cache-dir {self.folder}: the preprocessed volume {volume} is gone or damaged "
                f"({type(error).__name__}); run the same command again"
            ) from error

    def _path(self, ref: VolumeRef) -> Path:
        made_of = f"{self.recipe}\n{self.kind}\n{ref.key}\n{ref.size}\n{ref.etag}"
        if ref.reading != Reading():  # files of AI-READI keep the names of before
            made_of += f"\n{ref.reading}"
        return self.folder / f"{ref.volume}-{sha256(made_of.encode()).hexdigest()[:16]}.npz"


def to_levels(
    image: Float32[np.ndarray, "1 D H W"],
) -> tuple[UInt8[np.ndarray, "1 D H W"], Float32[np.ndarray, " 2"]]:
    """Round to 256 levels between the smallest and the largest voxel: voxel = scale[0] + level * scale[1].

    The error is at most half a step, (largest - smallest) / 510; a clinical B-scan has 256 levels itself.
    """
    low, high = float(image.min()), float(image.max())
    step = (high - low) / LEVELS if high > low else 1.0
    return np.round((image - np.float32(low)) / np.float32(step)).astype(np.uint8), np.array([low, step], np.float32)


def from_levels(
    levels: UInt8[np.ndarray, "1 D H W"], scale: Float32[np.ndarray, " 2"]
) -> Float32[np.ndarray, "1 D H W"]:
    """Give the voxels of levels."""
    voxels: np.ndarray = scale[0] + levels * scale[1]
    return voxels


def _pack_levels(image: Float32[np.ndarray, "1 D H W"]) -> dict[str, np.ndarray]:
    levels, scale = to_levels(image)
    return {"levels": levels, "scale": scale}


_PACK: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "uint8": _pack_levels,
    "float32": lambda image: {"image": image},
}


def _unpack(kept: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "1 D H W"]:
    return kept["image"] if "image" in kept else from_levels(kept["levels"], kept["scale"])


def _read_facts(kept: Mapping[str, np.ndarray]) -> RowFacts:
    frames, rows, columns, notes = kept["facts"].tolist()
    brightness = kept["brightness"].tolist()
    intensity = Intensity(*brightness) if brightness else None
    return RowFacts(frames, rows, columns, None, Eye.UNKNOWN, Note(notes), intensity=intensity)
