"""Kill writers of a store hundreds of times while somebody reads it, and count what went wrong.

Not part of the test suite. Three writers at a time, each killed (SIGKILL) after a random while and started again; they
make the store, append to its index, write rows and snapshots. A reader looks on. In the end one writer finishes, and
the store is compared, bit by bit, with one that was left alone.

    export PYTHONPATH=tests:tests/embeddings_store
    python tests/benchmarks/kill_store.py --kills 200 --place local
    python tests/benchmarks/kill_store.py --kills 100 --place s3
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from rclone_server import rclone_s3
from store_makers import SPACE, WORKER, make_refs, write_rows

from embeddings_store.diff import diff_stores
from embeddings_store.errors import StoreError
from embeddings_store.leftovers import abandoned_files
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer

WRITERS = 3
ROWS_A_LIFE = 25
KILLS_A_STORE = 50
LONGEST_LIFE_S = {"local": 3.0, "s3": 6.0}
SNAPSHOT_TAKES = 3  # times as long, so that some are finished, and others killed half-way
BIG_SPACE = replace(SPACE, width=64)
SHARED = {"capacity": 100_000, "worker": WORKER}


@dataclass(slots=True)
class Look:
    """What the reader saw. ``vanished``: rows that were committed once, and later were not."""

    looks: int = 0
    rows_read: int = 0
    snapshots_read: int = 0
    torn: list[str] = field(default_factory=list)
    vanished: int = 0


def live(url: str, rank: int, volumes: int, *, snapshot: bool) -> None:
    """Do what one process of a run does: make or open the store, append (rank 0), write the rows of this rank."""
    writer = open_writer(url, BIG_SPACE, **SHARED)
    if rank == 0:
        writer.add_volumes(make_refs(volumes))
    if snapshot:
        write_snapshot(url)
    for line in writer.missing_rows():
        if line.row % WRITERS == rank:
            write_rows(writer, [line.row])


def look_on(url: str, stop: Event, file: str) -> None:
    """Read again and again until told to stop; every row that has a commit must agree with it."""
    seen, look, rng = set[int](), Look(), random.Random(0)
    while not stop.is_set():
        try:
            reader = open_reader(url)
        except StoreError:
            time.sleep(0.01)
            continue
        committed = set(np.flatnonzero(reader.committed()).tolist())
        look.vanished += len(seen - committed)
        seen |= committed
        for row in rng.sample(sorted(committed), min(20, len(committed))):
            look.torn += torn_row(reader, row)
            look.rows_read += 1
        look_at_snapshot(url, look)
        look.looks += 1
    Path(file).write_text(json.dumps({name: getattr(look, name) for name in Look.__slots__}))


def torn_row(reader: StoreReader, row: int) -> list[str]:
    """Say how a committed row disagrees with its commit; [] when it does not."""
    try:
        reader.vectors([row])
        reader.committed_tokens(row)
    except StoreError as error:
        return [str(error)]
    return []


def look_at_snapshot(url: str, look: Look) -> None:
    try:
        read_snapshot(url)
        look.snapshots_read += 1
    except StoreError as error:
        if "has no snapshot" not in str(error):
            look.torn.append(str(error))


def kill_writers(context: ForkServerContext, url: str, kills: int, longest_s: float, rng: random.Random) -> int:
    """Start writers and kill them, until that many were hit alive; give the number of volumes that were announced."""
    hit, lives, running = 0, 0, dict[int, tuple[ForkServerProcess, float]]()
    while hit < kills:
        for rank in range(WRITERS):
            if rank not in running:
                lives += 1
                settings = {"snapshot": rng.random() < 0.2}
                process = context.Process(target=live, args=(url, rank, ROWS_A_LIFE * lives), kwargs=settings)
                process.start()
                longest = longest_s * (SNAPSHOT_TAKES if settings["snapshot"] else 1)
                running[rank] = (process, time.monotonic() + longest * rng.random() ** 2)
        time.sleep(0.002)
        for rank, (process, end) in list(running.items()):
            if time.monotonic() < end:
                continue
            process.kill()
            process.join()
            if process.exitcode not in (0, -9):
                raise RuntimeError(f"a writer failed by itself: exit code {process.exitcode}")
            hit += process.exitcode == -9
            del running[rank]
    for process, _ in running.values():
        process.kill()
        process.join()
    return ROWS_A_LIFE * lives


def torment(
    context: ForkServerContext, url: str, kills: int, longest_s: float, folder: Path, seed: int
) -> dict[str, Any]:
    """Torment one store and give the figures."""
    stop, file = context.Event(), folder / f"look-{seed}.json"
    reader = context.Process(target=look_on, args=(url, stop, str(file)))
    reader.start()
    volumes = kill_writers(context, url, kills, longest_s, random.Random(seed))
    rows_before = int(open_reader(url).committed().sum()) if has_store(url) else 0
    finish(url, volumes)
    stop.set()
    reader.join()
    whole = str(folder / f"whole-{seed}")
    finish(whole, volumes)
    found = verify_store(url)
    index, compared = open_reader(url).index(), diff_stores(url, whole)
    look = json.loads(file.read_text())
    return {
        "kills": kills,
        "volumes": volumes,
        "rows_before_the_last_run": rows_before,
        "lost": volumes - int(open_reader(url).committed().sum()),
        "duplicated": int(index["key"].duplicated().sum()),
        "bad_rows": found["bad"],
        "damaged_files": len(found["damaged_files"]),
        "orphans_after_verify": verify_store(url)["orphans"],
        "files_left_aside": len(abandoned_files(open_reader(url).storage, clock=lambda: time.time() + 1e6)),
        "rows_unequal_to_a_run_left_alone": compared["different"] + compared["only_a"] + compared["only_b"],
        "reader_looks": look["looks"],
        "reader_rows": look["rows_read"],
        "reader_snapshots": look["snapshots_read"],
        "torn_reads": len(look["torn"]),
        "vanished_rows": look["vanished"],
        "first_torn": look["torn"][:1],
    }


def has_store(url: str) -> bool:
    try:
        open_reader(url)
    except StoreError:
        return False
    return True


def finish(url: str, volumes: int) -> None:
    """Run to the end, alone."""
    writer = open_writer(url, BIG_SPACE, **SHARED)
    writer.add_volumes(make_refs(volumes))
    write_rows(writer, [line.row for line in writer.missing_rows()])


@contextmanager
def place(kind: str, folder: Path) -> Any:
    """Give the URL below which stores are made."""
    if kind == "local":
        yield str(folder)
        return
    (folder / "buckets" / "bucket").mkdir(parents=True)
    with rclone_s3(folder / "buckets") as (endpoint, access_key, secret_key):
        names = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        os.environ.update(names)
        yield "s3://bucket"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--place", choices=sorted(LONGEST_LIFE_S), default="local")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, place(options.place, Path(name)) as root:
        # A fork server, as its children start in milliseconds; it must be started after the environment was set.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["kill_store", "embeddings_store.writer", "embeddings_store.snapshot", "zarr"])
        for seed, first in enumerate(range(0, options.kills, KILLS_A_STORE)):
            kills = min(KILLS_A_STORE, options.kills - first)
            url = f"{root}/store-{seed}"
            figures = torment(context, url, kills, LONGEST_LIFE_S[options.place], Path(name), seed)
            print(json.dumps({"place": options.place, **figures}), flush=True)


if __name__ == "__main__":
    main()
