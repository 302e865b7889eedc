"""How a store's calls grow from 25,000 to 250,000 rows, without an encoder: seconds, memory, requests and inodes.

Each call runs in a process of its own. Requests are those that a store on S3 would get: one a GET and PUT, one for each
1,000 names of a LIST; but a disk reads rows out of packs one by one, where of S3 whole packs are kept. Not part of the
test suite; its quick form is.

    export PYTHONPATH=tests:tests/benchmarks
    python tests/benchmarks/growth_table.py --rows 25000,250000 --write-page
    python tests/benchmarks/growth_table.py --rows 25000 --pack
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from peak_memory import resident_mb
from reliability_page import RESULT, draw_page, markdown_growth
from sources import current_commit
from store_makings import FACTS, WIDTH, WORKER, make_ref, make_space

from classify.options import ProbeOptions
from classify.probe import read_tables_of
from embeddings_store.pack import pack_store
from embeddings_store.schema import SITES, ParticipantId, VolumeRef
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.status import store_status
from embeddings_store.storage import Storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer

SCANS = 24
"""Of a participant: 10,416 people in 250,000 volumes."""
PAGE = 1000
GROUPS = ("healthy", "pre_diabetes_lifestyle_controlled", "insulin_dependent",
          "oral_medication_and_or_non_insulin_injectable_medication_controlled")  # fmt: skip
SPACE = make_space(None, ("mean",))


def name_person(number: int) -> str:
    """Name a participant; the first digit is that of a site."""
    return f"{sorted(SITES)[number % len(SITES)]}{number // len(SITES):05d}"


def refs(rows: int) -> list[VolumeRef]:
    return [replace(make_ref(row), participant=ParticipantId(name_person(row // SCANS))) for row in range(rows)]


def fill(folder: Path, rows: int) -> None:
    """Make a store whose last row is missing, and participants.tsv."""
    writer = open_writer(str(folder / "store"), SPACE, capacity=rows, worker=WORKER)
    writer.add_volumes(refs(rows))
    rng = np.random.default_rng(0)
    for row in range(rows - 1):
        writer.write_row(row, rng.standard_normal((1, 1, WIDTH), dtype=np.float32), {}, FACTS, bytes(16), 130_000_000)
    write_people(folder, rows)


def write_people(folder: Path, rows: int) -> Path:
    """Write participants.tsv of so many rows, a quarter of the people in each group."""
    rng = np.random.default_rng(0)
    lines = ["participant_id\tclinical_site\tstudy_group\tage\trecommended_split"]
    for person in range(-(-rows // SCANS)):
        split = ("train",) * 7 + ("val",) + ("test",) * 2
        group, part = GROUPS[person % 4], split[person % 10]
        lines.append(f"{name_person(person)}\t{SITES[name_person(person)[0]]}\t{group}\t{rng.integers(40, 80)}\t{part}")
    (path := folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return path


def resume(folder: Path, rows: int) -> None:
    """Do what a run does before it fetches: open, compare the listing with the index, name what is missing."""
    writer = open_writer(str(folder / "store"), SPACE, capacity=rows, worker=WORKER)
    writer.add_volumes(refs(rows))
    missing = writer.missing_rows()
    if len(missing) != 1:
        raise AssertionError(f"{len(missing)} rows are missing, not 1")


def join(folder: Path, _: int) -> None:
    """Join what training reads with the participants."""
    options = ProbeOptions(model="dummy", store="store", participants=folder / "participants.tsv", runs=folder / "runs")
    tables = read_tables_of(options, options.question(options.task), lambda _: None)
    tables.join(read_snapshot(str(folder / "store")))


CALLS: dict[str, Callable[[Path, int], Any]] = {
    "open": lambda folder, rows: open_writer(str(folder / "store"), SPACE, capacity=rows, worker=WORKER),
    "resume": resume,
    "status": lambda folder, _: store_status(_reader(folder)),
    "snapshot": lambda folder, _: write_snapshot(str(folder / "store")),
    "snapshot read": lambda folder, _: read_snapshot(str(folder / "store")),
    "join": join,
    "verify": lambda folder, _: verify_store(str(folder / "store")),
}


def _reader(folder: Path) -> Any:
    from embeddings_store.reader import open_reader

    return open_reader(str(folder / "store"))


def count_requests() -> dict[str, int]:
    """Let the storage count what S3 would be asked."""
    counted = {"requests": 0}

    def counting(name: str, cost: Callable[[Any], int]) -> None:
        plain = getattr(Storage, name)

        def call(self: Storage, *arguments: Any, **words: Any) -> Any:
            answer = plain(self, *arguments, **words)
            counted["requests"] += cost(answer)
            return answer

        setattr(Storage, name, call)

    for name in ("get", "put", "delete", "read_into"):
        counting(name, lambda _: 1)
    for name in ("list_sizes", "list_times", "list_names", "list_folders"):
        counting(name, lambda found: 1 + len(found) // PAGE)
    return counted


def measure_one(name: str, folder: Path, rows: int) -> dict[str, Any]:
    """Measure one call in this process."""
    counted, before, start = count_requests(), _peak_mb(), time.perf_counter()
    CALLS[name](folder, rows)
    seconds = time.perf_counter() - start
    return {"call": name, "rows": rows, "seconds": round(seconds, 2), "mb": round(_peak_mb() - before), **counted}


def _peak_mb() -> float:
    return resident_mb("VmHWM")  # of this process alone: ru_maxrss would begin with its parent's


def measure(rows: int, folder: Path, names: list[str], *, pack: bool = False) -> list[dict[str, Any]]:
    """Make a store of so many rows, packed if asked, and measure every call in a process of its own."""
    fill(folder, rows)
    if pack:
        start = time.perf_counter()
        sys.stderr.write(f"{pack_store(str(folder / 'store'))} in {time.perf_counter() - start:.1f} s\n")
    found = []
    for name in names:
        line = [sys.executable, __file__, "--one", name, "--folder", str(folder), "--rows", str(rows)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode:
            raise RuntimeError(f"{name}, {rows} rows: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout) | {"inodes": 0})
        sys.stderr.write(f"{found[-1]}\n")
    inodes = sum(len(folders) + len(files) for _, folders, files in os.walk(folder / "store"))
    return [{**line, "inodes": inodes} for line in found]


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="25000,250000", help="How many rows, with commas between.")
    parser.add_argument("--write-page", action="store_true", help="Keep the rows, and renew docs/reliability.md.")
    parser.add_argument("--pack", action="store_true", help="Pack each store after it was filled.")
    parser.add_argument("--one", choices=CALLS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure_one(options.one, options.folder, int(options.rows))))
        return
    found = []
    for rows in map(int, options.rows.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="growth-"))
        try:
            found += measure(rows, folder, list(CALLS), pack=options.pack)
        finally:
            shutil.rmtree(folder)
    today, load = datetime.now(UTC).date().isoformat(), round(os.getloadavg()[1], 1)
    stamp = {"date": today, "commit": current_commit(), "load": load}
    found = [line | stamp for line in found]
    if options.write_page:
        record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps(record | {"growth": found}, indent=1, ensure_ascii=False) + "\n")
        draw_page()
    sys.stdout.write(markdown_growth(found) + "\n")


if __name__ == "__main__":
    main()
