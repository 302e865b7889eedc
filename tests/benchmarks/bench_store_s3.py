"""P4 on S3: rows through a real server on loopback (rclone), against the same bytes by obstore's own put and get."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from comparison import Goal, Row, time_row
from obstore.store import S3Store
from settings import Settings
from side_by_side import in_turn
from store_makings import FACTS, FULL_GRID, POOLS, WIDTH, WORKER, make_ref, make_space

from embeddings_store.reader import open_reader
from embeddings_store.writer import open_writer

sys.path.append(str(Path(__file__).parent.parent))
from rclone_server import rclone_s3

WRITE_GOAL, READ_GOAL = Goal(ratio=0.9), Goal(ratio=0.8)
PEER = "obstore put and get of the same bytes"


def measure_s3(settings: Settings) -> list[Row]:
    (settings.folder / "buckets" / "bucket").mkdir(parents=True)
    with rclone_s3(settings.folder / "buckets") as (endpoint, access_key, secret_key):
        os.environ.update(AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key, AWS_ENDPOINT_URL=endpoint)
        return _rows(settings, endpoint)


def _rows(settings: Settings, endpoint: str) -> list[Row]:
    rows, grid = (2, (4, 6, 6)) if settings.quick else (16, FULL_GRID)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((rows, *grid, WIDTH), dtype=np.float32).astype(np.float16)
    pooled = rng.standard_normal((rows, 1, len(POOLS), WIDTH), dtype=np.float32)
    url = "s3://bucket/store"
    writer = open_writer(url, make_space(grid), capacity=1000, worker=WORKER)
    writer.add_volumes([make_ref(row) for row in range(rows)])
    config: Any = {"endpoint": endpoint, "region": "us-east-1", "virtual_hosted_style_request": False}
    peer = S3Store("bucket", prefix="plain", config=config, client_options={"allow_http": True})

    def write() -> None:
        for row in range(rows):
            writer.write_row(row, pooled[row], {"last": tokens[row]}, FACTS, bytes(16), 130_000_000)

    def put() -> None:
        for row in range(rows):
            for name, values in (("tokens", tokens), ("pooled", pooled)):
                obstore.put(peer, f"{name}/{row}", values[row].reshape(-1).view(np.uint8).data, use_multipart=False)

    def get() -> list[np.ndarray]:
        bodies = (obstore.get(peer, f"tokens/{row}").bytes() for row in range(rows))
        return [np.frombuffer(body, dtype=np.float16).reshape(tokens.shape[1:]) for body in bodies]

    def read() -> list[np.ndarray]:
        reader = open_reader(url)
        return [reader.tokens(row, "last") for row in range(rows)]

    def agree(mine: list[np.ndarray], theirs: list[np.ndarray]) -> str:
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
        return "ours also checks every crc32c and opens the store first; a server on loopback, one row after another"

    what, rounds = f"{rows} x {tokens[0].nbytes / 1e6:.1f} MB tokens", 1 if settings.quick else 5
    wrote = in_turn(write, put, rounds=rounds, agree=lambda _ours, _peer: agree(read(), get()))
    came = in_turn(read, get, rounds=rounds, agree=agree)
    row = partial(time_row, id="P4", peer=PEER)
    return [
        row(wrote, work=f"store on S3: write {what} with pooled rows", goal=WRITE_GOAL, notes=["4 PUTs a row, not 2"]),
        row(came, work=f"store on S3: read {what}", goal=READ_GOAL),
    ]
