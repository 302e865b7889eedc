"""P4: the store's rows and snapshots, against plain files: np.save, torch.save, np.load."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn

from embeddings_store.reader import open_reader
from embeddings_store.schema import FACT_COLUMNS, Eye, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from embeddings_store.snapshot import read_snapshot
from embeddings_store.snapshot_files import SnapshotFiles, put_snapshot
from embeddings_store.space import EmbeddingSpace, Grid
from embeddings_store.writer import StoreWriter, open_writer
from extract.preset import PRESETS

WIDTH, POOLS = 768, ("mean", "max", "std")
FULL_GRID: Grid = (16, 24, 24)
FACTS = RowFacts(512, 496, 512, (0.0114, 0.00387, 0.0114), Eye.RIGHT, Note.SYNTHETIC)
WORKER = {"device": "cpu", "versions": {}}
WRITE_GOAL, READ_GOAL, POOLED_GOAL = Goal(ratio=0.9), Goal(ratio=0.5), Goal(ratio=1 / 1.5)


class PlainFiles:
    """The peer: a file of tokens and a file of pooled vectors for each volume."""

    def __init__(self, folder: Path, suffix: str, save: Callable[[Path, Any], None], load: Callable[[Path], Any]):
        self.folder, self.suffix, self._save, self._load = folder, suffix, save, load
        folder.mkdir()

    def write(self, tokens: np.ndarray, pooled: np.ndarray) -> None:
        for row in range(len(tokens)):
            self._save(self._path("tokens", row), tokens[row])
            self._save(self._path("pooled", row), pooled[row])

    def read(self, rows: int) -> list[Any]:
        return [self._load(self._path("tokens", row)) for row in range(rows)]

    def _path(self, kind: str, row: int) -> Path:
        return self.folder / f"{kind}-{row}{self.suffix}"


def measure(settings: Settings) -> list[Row]:
    return [*_token_rows(settings), *_pooled_rows(settings)]


def _token_rows(settings: Settings) -> list[Row]:
    rows, grid = (4, (4, 6, 6)) if settings.quick else (32, FULL_GRID)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((rows, *grid, WIDTH), dtype=np.float32).astype(np.float16)
    pooled = rng.standard_normal((rows, 1, len(POOLS), WIDTH), dtype=np.float32)
    url = str(settings.folder / "store")
    writer = open_writer(url, make_space(grid), capacity=1000, worker=WORKER)
    writer.add_volumes([make_ref(row) for row in range(rows)])
    plain = {
        "one .npy a volume (np.save, np.load)": PlainFiles(settings.folder / "npy", ".npy", np.save, np.load),
        "one .pt a volume (torch.save, torch.load)": PlainFiles(settings.folder / "pt", ".pt", _save_pt, _load_pt),
    }
    work = f"{rows} x {tokens[0].nbytes / 1e6:.1f} MB tokens with pooled rows, random"
    found = []
    for name, files in plain.items():
        found += [_write_row(writer, files, tokens, pooled, settings, {"work": f"store: write {work}", "peer": name})]
    for name, files in plain.items():
        words = {"work": f"store: warm read of {rows} x {tokens[0].nbytes / 1e6:.1f} MB tokens, random", "peer": name}
        found += [_read_row(url, files, rows, settings, words)]
    return found


def _write_row(
    writer: StoreWriter,
    files: PlainFiles,
    tokens: np.ndarray,
    pooled: np.ndarray,
    settings: Settings,
    words: dict[str, str],
) -> Row:
    def ours() -> None:
        for row in range(len(tokens)):
            writer.write_row(row, pooled[row], {"last": tokens[row]}, FACTS, bytes(16), 130_000_000)

    def agree(_ours: None, _peer: None) -> str:
        reader = open_reader(writer.storage.url)
        for row, loaded in enumerate(files.read(len(tokens))):
            np.testing.assert_array_equal(reader.tokens(row, "last"), np.asarray(loaded))
        np.testing.assert_array_equal(reader.pooled(range(len(pooled))), pooled)
        return "read back bit by bit; ours also checks every value, sums every byte (crc32c) and commits"

    timed = in_turn(ours, lambda: files.write(tokens, pooled), rounds=_rounds(settings), agree=agree)
    return time_row(timed, id="P4", goal=WRITE_GOAL if "npy" in words["peer"] else None, **words)


def _read_row(url: str, files: PlainFiles, rows: int, settings: Settings, words: dict[str, str]) -> Row:
    reader = open_reader(url)

    def ours() -> list[np.ndarray]:
        return [reader.tokens(row, "last") for row in range(rows)]

    def agree(mine: list[np.ndarray], theirs: list[Any]) -> str:
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, np.asarray(other))
        return "equal bit by bit; ours also checks every crc32c; warm: from the page cache"

    timed = in_turn(ours, lambda: files.read(rows), rounds=_rounds(settings), agree=agree)
    return time_row(timed, id="P4", goal=READ_GOAL if "npy" in words["peer"] else None, **words)


def _pooled_rows(settings: Settings) -> list[Row]:
    volumes = 500 if settings.quick else 25_000
    vectors = np.random.default_rng(1).standard_normal((volumes, 1, 1, WIDTH), dtype=np.float32)
    space = make_space(None, pools=("mean",))
    url = str(settings.folder / "pooled")
    writer = open_writer(url, space, capacity=volumes, worker=WORKER)
    files = snapshot_files(vectors, space)
    put_snapshot(writer.storage, files)
    array_path, table_path = settings.folder / "pooled.npy", settings.folder / "table.parquet"
    np.save(array_path, vectors)
    files.table.to_parquet(table_path)
    work = f"store: warm read of a snapshot, {volumes} x {WIDTH} pooled"
    arrays = in_turn(
        lambda: read_pooled(url),
        lambda: np.load(array_path),
        rounds=_rounds(settings, 7),
        agree=_same_array,
    )
    whole = in_turn(
        lambda: read_snapshot(url),
        lambda: (np.load(array_path), pd.read_parquet(table_path)),
        rounds=_rounds(settings, 7),
        agree=_same_snapshot,
    )
    return [
        time_row(arrays, id="P4", work=f"{work}, the array alone", peer="np.load", goal=POOLED_GOAL),
        time_row(whole, id="P4", work=f"{work}, with its index", peer="np.load and pd.read_parquet", goal=POOLED_GOAL),
    ]


def read_pooled(url: str) -> np.ndarray:
    """Read it the way that docs/store.md gives to other programs: plain zarr."""
    import zarr

    array: Any = zarr.open_array(f"{url}/snapshots/1/pooled", mode="r")
    values: np.ndarray = array[:]
    return values


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


def snapshot_files(vectors: np.ndarray, space: EmbeddingSpace) -> SnapshotFiles:
    """Lay out what a snapshot of this many committed rows holds."""
    refs = [make_ref(row) for row in range(len(vectors))]
    columns: dict[str, Any] = {"row": np.arange(len(refs))}
    for name in ("key", "size", "etag", "volume", "participant", "eye", "device", "protocol"):
        columns[name] = [getattr(ref, name) for ref in refs]
    columns["eye"] = [str(eye) for eye in columns["eye"]]
    columns["site"] = ["UW"] * len(refs)
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


def _rounds(settings: Settings, usual: int = 3) -> int:
    return 1 if settings.quick else usual


def _save_pt(path: Path, values: np.ndarray) -> None:
    torch.save(torch.from_numpy(values), path)


def _load_pt(path: Path) -> torch.Tensor:
    tensor: torch.Tensor = torch.load(path, weights_only=True)
    return tensor


def _same_array(ours: np.ndarray, peer: np.ndarray) -> str:
    np.testing.assert_array_equal(ours, peer)
    return "equal bit by bit; ours also checks crc32c"


def _same_snapshot(ours: Any, peer: tuple[np.ndarray, pd.DataFrame]) -> str:
    np.testing.assert_array_equal(ours.pooled, peer[0])
    assert list(ours.index.columns) == list(peer[1].columns)
    assert (ours.index["key"].to_numpy(str) == peer[1]["key"].to_numpy(str)).all()
    return "equal bit by bit"
