"""What the store is compared with: the same numbers as plain files, without a commit, an index or a sum unless said."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import torch


class PlainFiles:
    """A file of tokens and a file of pooled vectors for each volume, in a folder that can be emptied."""

    def __init__(self, folder: Path, suffix: str, save: Callable[[Path, Any], None], load: Callable[[Path], Any]):
        self.folder, self.suffix, self._save, self._load = folder, suffix, save, load

    def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def write(self, tokens: np.ndarray, pooled: np.ndarray) -> None:
        for row in range(len(tokens)):
            self._save(self._path("tokens", row), tokens[row])
            self._save(self._path("pooled", row), pooled[row])

    def read(self, rows: int) -> list[Any]:
        return [self._load(self._path("tokens", row)) for row in range(rows)]

    def _path(self, kind: str, row: int) -> Path:
        return self.folder / f"{kind}-{row}{self.suffix}"


H5 = "one .h5 a volume (h5py)"


def peers_in(folder: Path) -> dict[str, PlainFiles]:
    """Give the peers by name; the first is the one that goals are set against. H5 needs h5py."""
    return {
        "one .npy a volume (np.save, np.load)": PlainFiles(folder / "npy", ".npy", np.save, np.load),
        "one .npy a volume with what ours promises (finite, crc32c, rename)": PlainFiles(
            folder / "sums", ".npy", _save_as_safely, _load_as_safely
        ),
        H5: PlainFiles(folder / "h5", ".h5", _save_h5, _load_h5),
        "one .pt a volume (torch.save, torch.load)": PlainFiles(folder / "pt", ".pt", _save_pt, _load_pt),
    }


def leave_page_cache(folder: Path) -> None:
    """Write a folder out and drop its pages; a virtual disk's host may keep them, which nobody here can change."""
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _save_as_safely(path: Path, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    aside = path.with_suffix(".aside.npy")
    np.save(aside, values)
    path.with_suffix(".crc").write_text(str(google_crc32c.value(values.reshape(-1).view(np.uint8))))
    aside.rename(path)


def _load_as_safely(path: Path) -> np.ndarray:
    values: np.ndarray = np.load(path)
    if google_crc32c.value(values.reshape(-1).view(np.uint8)) != int(path.with_suffix(".crc").read_text()):
        raise ValueError("damaged")
    return values


def _save_h5(path: Path, values: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["values"] = values


def _load_h5(path: Path) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        values: np.ndarray = file["values"][:]
    return values


def _save_pt(path: Path, values: np.ndarray) -> None:
    torch.save(torch.from_numpy(values), path)


def _load_pt(path: Path) -> torch.Tensor:
    tensor: torch.Tensor = torch.load(path, weights_only=True)
    return tensor
