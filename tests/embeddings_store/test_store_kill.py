"""Writers killed at any moment lose nothing: the store ends equal to that of a run that was left alone."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from store_makers import SPACE, WORKER, make_refs, write_rows

from embeddings_store.reader import open_reader
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer

VOLUMES = 60
ROUNDS = 5
SCRIPT = f"""
import sys
from store_makers import SPACE, WORKER, make_refs, write_rows
from embeddings_store.writer import open_writer

url, rank, volumes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("opening", flush=True)
writer = open_writer(url, SPACE, capacity={VOLUMES}, worker=WORKER)
if rank == 0:
    writer.add_volumes(make_refs(volumes))
for line in writer.missing_rows():
    if line.row % 2 == rank:
        write_rows(writer, [line.row])
        print("row", flush=True)
"""


def start(url: str, rank: int, volumes: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, url, str(rank), str(volumes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)


def kill_after(writer: subprocess.Popen[str], lines: int, delay_s: float) -> None:
    assert writer.stdout is not None
    for _ in range(lines):
        writer.stdout.readline()
    time.sleep(delay_s)
    writer.kill()
    writer.communicate()
    assert writer.returncode in (0, -9)


def test_writers_killed_ten_times_leave_what_one_run_leaves(tmp_path: Path) -> None:
    url, rng = str(tmp_path / "killed"), random.Random(7)
    kept = []
    for attempt in range(ROUNDS):
        first, second = (start(url, rank, VOLUMES - 10 * (ROUNDS - 1 - attempt)) for rank in (0, 1))
        # Some way into the rows, or, every other time, while the store or its index is being made.
        kill_after(first, *((rng.randint(2, 8), rng.uniform(0.0, 0.003)), (1, rng.uniform(0.0, 0.1)))[attempt % 2])
        kill_after(second, rng.randint(2, 8), rng.uniform(0.0, 0.003))
        kept.append(int(open_reader(url).committed().sum()))
    assert kept == sorted(kept)
    assert kept[-1] > 0

    for name in ("killed", "whole"):
        writer = open_writer(str(tmp_path / name), SPACE, capacity=VOLUMES, worker=WORKER)
        writer.add_volumes(make_refs(VOLUMES))
        write_rows(writer, [line.row for line in writer.missing_rows()])

    found = verify_store(url)
    assert (found["checked"], found["bad"], found["orphans"]) == (VOLUMES, 0, 0)
    killed, whole = open_reader(url), open_reader(str(tmp_path / "whole"))
    rows = range(VOLUMES)
    assert killed.index().equals(whole.index())
    assert killed.facts(rows).equals(whole.facts(rows))
    np.testing.assert_array_equal(killed.pooled(rows), whole.pooled(rows))
    for layer in SPACE.layers:
        np.testing.assert_array_equal(killed.token_batch(rows, layer), whole.token_batch(rows, layer))
