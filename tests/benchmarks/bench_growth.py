"""P13: how the store's everyday calls grow with its rows: 250, 2,500, 25,000. No peer; pooled rows without tokens."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from comparison import Row
from settings import Settings
from store_makings import FACTS, WIDTH, WORKER, make_ref, make_space

from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.status import store_status
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer

SIZES = (250, 2_500, 25_000)
ROUNDS = 3


def measure(settings: Settings) -> list[Row]:
    found = []
    for rows in (25, 250) if settings.quick else SIZES:
        url = str(settings.folder / f"store-{rows}")
        writer = _filled(url, rows)
        for name, call in _calls(url, writer).items():
            seconds = _median_s(call, 1 if settings.quick or name in ("snapshot", "verify") else ROUNDS)
            found.append(_row(f"store: {name}, {rows:,} rows", seconds))
    return found


def _row(work: str, seconds: float) -> Row:
    return Row(id="P13", work=work, peer="none", unit="s", ours=seconds, rounds=ROUNDS)


def _filled(url: str, rows: int) -> StoreWriter:
    """Make a store whose last row is missing."""
    writer = open_writer(url, make_space(None), capacity=rows, worker=WORKER)
    writer.add_volumes([make_ref(row) for row in range(rows)])
    vectors = np.random.default_rng(0).standard_normal((1, 3, WIDTH), dtype=np.float32)
    for row in range(rows - 1):
        writer.write_row(row, vectors, {}, FACTS, bytes(16), 130_000_000)
    return writer


def _calls(url: str, writer: StoreWriter) -> dict[str, Callable[[], Any]]:
    reader = open_reader(url)
    rows = range(int(reader.committed().sum()))
    return {
        "open": lambda: open_reader(url),
        "status": lambda: store_status(open_reader(url)),
        "resume (missing_rows)": writer.missing_rows,
        "pooled read, row by row": lambda: reader.pooled(rows),
        "snapshot": lambda: write_snapshot(url),
        "snapshot read": lambda: read_snapshot(url),
        "verify": lambda: verify_store(url),
    }


def _median_s(call: Callable[[], Any], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return median(spent)
