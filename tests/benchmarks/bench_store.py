"""P4: the store's rows and snapshots, against plain files (NumPy, HDF5, torch) on a disk, and obstore on S3."""

import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench_store_s3 import measure_s3
from comparison import Goal, Row, not_measured, time_row
from settings import Settings
from side_by_side import in_turn
from store_makings import FACTS, FULL_GRID, POOLS, WIDTH, WORKER, make_ref, make_space, snapshot_files
from store_peers import H5, PlainFiles, leave_page_cache, peers_in

from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_snapshot
from embeddings_store.snapshot_files import put_snapshot
from embeddings_store.snapshot_reading import read_pooled
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import open_storage
from embeddings_store.writer import StoreWriter, open_writer

WRITE_GOAL, COLD_GOAL, WARM_GOAL, POOLED_GOAL = Goal(ratio=0.9), Goal(ratio=0.8), Goal(ratio=0.5), Goal(ratio=1 / 1.5)


class OurStore:
    """The store under test, which can be made anew."""

    def __init__(self, folder: Path, space: EmbeddingSpace, rows: int) -> None:
        self.folder, self.space, self.rows = folder, space, rows
        self.writer: StoreWriter

    def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.writer = open_writer(str(self.folder), self.space, capacity=1000, worker=WORKER)
        self.writer.add_volumes([make_ref(row) for row in range(self.rows)])

    def write(self, tokens: np.ndarray, pooled: np.ndarray) -> None:
        for row in range(len(tokens)):
            self.writer.write_row(row, pooled[row], {"last": tokens[row]}, FACTS, bytes(16), 130_000_000)

    def read(self, rows: int) -> list[np.ndarray]:
        reader = open_reader(str(self.folder))
        return [reader.tokens(row, "last") for row in range(rows)]


def measure(settings: Settings) -> list[Row]:
    return [*_token_rows(settings), *_pooled_rows(settings), *measure_s3(settings)]


def _token_rows(settings: Settings) -> list[Row]:
    rows, grid = (4, (4, 6, 6)) if settings.quick else (64 if settings.full else 32, FULL_GRID)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((rows, *grid, WIDTH), dtype=np.float32).astype(np.float16)
    pooled = rng.standard_normal((rows, 1, len(POOLS), WIDTH), dtype=np.float32)
    ours = OurStore(settings.folder / "store", make_space(grid), rows)
    what = f"{rows} x {tokens[0].nbytes / 1e6:.1f} MB tokens"
    found = []
    for place, (name, peer) in enumerate(peers_in(settings.folder).items()):
        goals = (WRITE_GOAL, COLD_GOAL, WARM_GOAL) if place == 0 else (None, None, None)
        words = [f"store: write {what} with pooled rows", f"store: cold read of {what}", f"store: warm read of {what}"]
        if name == H5 and find_spec("h5py") is None:
            found += [not_measured("h5py is not installed", id="P4", work=work, peer=name, unit="s") for work in words]
            continue
        found += [
            _write_row(ours, peer, tokens, pooled, settings, {"work": words[0], "peer": name, "goal": goals[0]}),
            _read_row(ours, peer, rows, settings, {"work": words[1], "peer": name, "goal": goals[1]}, cold=True),
            _read_row(ours, peer, rows, settings, {"work": words[2], "peer": name, "goal": goals[2]}, cold=False),
        ]
        shutil.rmtree(peer.folder)
    return found


def _write_row(
    ours: OurStore, peer: PlainFiles, tokens: np.ndarray, pooled: np.ndarray, settings: Settings, words: dict[str, Any]
) -> Row:
    def agree(_ours: None, _peer: None) -> str:
        for row, (mine, theirs) in enumerate(zip(ours.read(len(tokens)), peer.read(len(tokens)), strict=True)):
            np.testing.assert_array_equal(mine, tokens[row])
            np.testing.assert_array_equal(mine, np.asarray(theirs))
        np.testing.assert_array_equal(open_reader(str(ours.folder)).pooled(range(len(pooled))), pooled)
        return "new files, none synced; ours checks every value, sums every byte (crc32c), renames and commits"

    timed = in_turn(
        partial(ours.write, tokens, pooled),
        partial(peer.write, tokens, pooled),
        rounds=_rounds(settings, 5),
        agree=agree,
        before=(lambda: _start_anew(ours), lambda: _start_anew(peer)),
    )
    return time_row(timed, id="P4", **words)


def _start_anew(side: OurStore | PlainFiles) -> None:
    """Empty the side's folder, and let the disk finish what was written before."""
    side.empty()
    leave_page_cache(side.folder.parent)


def _read_row(
    ours: OurStore, peer: PlainFiles, rows: int, settings: Settings, words: dict[str, Any], *, cold: bool
) -> Row:
    def agree(mine: list[np.ndarray], theirs: list[Any]) -> str:
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, np.asarray(other))
        where = (
            "cold: each file's pages dropped (fadvise), the disk's host may keep them"
            if cold
            else "from the page cache"
        )
        return f"ours also checks every crc32c; {where}"

    cool = (lambda: leave_page_cache(ours.folder), lambda: leave_page_cache(peer.folder)) if cold else None
    timed = in_turn(
        partial(ours.read, rows), partial(peer.read, rows), rounds=_rounds(settings, 5), agree=agree, before=cool
    )
    return time_row(timed, id="P4", **words)


def _pooled_rows(settings: Settings) -> list[Row]:
    volumes = 500 if settings.quick else 25_000
    vectors = np.random.default_rng(1).standard_normal((volumes, 1, 1, WIDTH), dtype=np.float32)
    space = make_space(None, pools=("mean",))
    url = str(settings.folder / "pooled")
    open_writer(url, space, capacity=volumes, worker=WORKER)
    storage, files = open_storage(url, create=False), snapshot_files(vectors, space)
    put_snapshot(storage, files)
    array_path, table_path = settings.folder / "pooled.npy", settings.folder / "table.parquet"
    np.save(array_path, vectors)
    files.table.to_parquet(table_path)
    work = f"store: warm read of a snapshot, {volumes} x {WIDTH} pooled"
    arrays = in_turn(
        lambda: read_pooled(storage, 1), lambda: np.load(array_path), rounds=_rounds(settings, 9), agree=_same_array
    )
    whole = in_turn(
        lambda: read_snapshot(url),
        lambda: (np.load(array_path), pd.read_parquet(table_path)),
        rounds=_rounds(settings, 9),
        agree=_same_snapshot,
    )
    return [
        time_row(arrays, id="P4", work=f"{work}, the array alone", peer="np.load", goal=POOLED_GOAL),
        time_row(whole, id="P4", work=f"{work}, with its index", peer="np.load and pd.read_parquet", goal=POOLED_GOAL),
    ]


def _rounds(settings: Settings, usual: int) -> int:
    return 1 if settings.quick else usual


def _same_array(ours: np.ndarray, peer: np.ndarray) -> str:
    np.testing.assert_array_equal(ours, peer)
    return "equal bit by bit; ours also checks crc32c"


def _same_snapshot(ours: Any, peer: tuple[np.ndarray, pd.DataFrame]) -> str:
    np.testing.assert_array_equal(ours.pooled, peer[0])
    assert list(ours.index.columns) == list(peer[1].columns)
    assert (ours.index["key"].to_numpy(str) == peer[1]["key"].to_numpy(str)).all()
    return "equal bit by bit; ours also checks crc32c, and opens the store first"
