"""What a killed and repeated command left, compared with what an uninterrupted one left."""

import hashlib
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.numpy import load_file

from embeddings_store.diff import diff_stores
from embeddings_store.reader import open_reader

RUN_ID = re.compile(r"20\d{6}-\d{6}-([a-z0-9_-]+?)-[0-9a-f]{6}(?![0-9a-f])")
TIMES = re.compile(
    r"20\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\+00:00|Z)?)?|\b\d+(?:\.\d+)? (?:s|min|minutes|seconds)\b"
)
SECONDS = re.compile(r'"(?:seconds|wall|fit_seconds|elapsed)":\s*(?:\{[^{}]*\}|[\d.e-]+)')
TEXT = {".json", ".html", ".md", ".csv", ".tsv", ".txt"}
NAMES = (
    (re.compile(r"(store/(?:.*/)?index/\d+)-[0-9a-f]+-[0-9a-f]+"), r"\1"),
    (re.compile(r"20\d{6}-\d{6}-[0-9a-f]{6}\b"), "COMPARISON"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "MIRRORED"),
    (re.compile(r'"reused": (true|false)'), '"reused": T'),
    (re.compile(r'"resumed_at": \d+'), '"resumed_at": T'),
    (re.compile(r'(\.safetensors"): "[0-9a-f]{64}"'), r"\1: T"),  # the order of notes in their heads is drawn by lot
)
"""What is drawn by lot, and what was there already: cells of a comparison, trials of a search."""
BESIDE = re.compile(r"(tmp|cache)(/|$)|log-|store/(.*/)?workers/")
"""What lies in the folder of a trial, and is judged otherwise or not: each life of a worker notes itself once."""
KEPT = re.compile(r"store/.*#\d+$|store/(.*/)?running\b|store/snapshots/\d+[./]")
"""What a store keeps of a killed writer by its own rule: a file aside and a snapshot of before LATEST for an hour, its
sign of life for a day."""
NUMBERED = {"store/LATEST", "store/snapshots/LATEST.crc32c", "store/snapshots/LATEST/zarr.json"}
"""They hold the number of the snapshot, which is the next one after a killed process had taken the first."""


@dataclass(frozen=True)
class Left:
    """Files by their path without run ids and dates, each with the digests of its copies; rows of the store."""

    files: dict[str, list[str]] = field(default_factory=dict)
    runs: int = 0
    kept: int = 0


def look(folder: Path, temporary: Path) -> Left:
    """Read what lies in the folder of a trial, and what was left in its TMPDIR."""
    files, kept = dict[str, list[str]](), 0
    published = folder / "store/LATEST"
    latest = re.compile(f"^store/snapshots/{published.read_text().strip() if published.exists() else 'none'}(?=[./])")
    for path in sorted(folder.rglob("*")):
        name = latest.sub("store/snapshots/LATEST", path.relative_to(folder).as_posix())
        if BESIDE.match(name) or not (path.is_file() or (path.is_dir() and not any(path.iterdir()))):
            continue
        if KEPT.match(name):
            kept += 1
            continue
        content = "numbered" if name in NUMBERED else "folder" if path.is_dir() else digest(path)
        files.setdefault(plain(name), []).append(content)
    for path in temporary.rglob("*"):
        if path.is_file():
            files.setdefault(f"TMPDIR/{path.relative_to(temporary)}", []).append("left")
    runs = sum(1 for _ in folder.glob("runs/[!.]*/run.json"))
    return Left({name: sorted(found) for name, found in files.items()}, runs, kept)


def plain(text: str) -> str:
    """Give a text without run ids, dates, times and what is drawn by lot."""
    for pattern, word in NAMES:
        text = pattern.sub(word, text)
    return SECONDS.sub('"seconds": T', TIMES.sub("T", RUN_ID.sub(r"RUN-\1", text)))


def digest(path: Path) -> str:
    """Digest what counts in a file."""
    if path.suffix == ".db":
        return _hash(repr(_mirrored(path)).encode())
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str)
        return _hash(plain(table[[name for name in table if "second" not in name]].to_csv()).encode())
    if path.suffix == ".safetensors":
        return _hash(b"".join(name.encode() + part.tobytes() for name, part in sorted(load_file(path).items())))
    content = path.read_bytes()
    return _hash(plain(content.decode(errors="replace")).encode() if path.suffix in TEXT else content)


def _mirrored(path: Path) -> list[Any]:
    """Give the runs of a tracking database with their numbers, by name."""
    lines = (
        "select r.name, r.status, m.key, m.value from runs r join latest_metrics m using (run_uuid) "
        "where r.lifecycle_stage = 'active' and m.key not like '%second%'"
    )
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        return sorted((plain(str(name)), status, key, value) for name, status, key, value in base.execute(lines))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class Compared:
    """How a repeated command differs from an uninterrupted one: names of files, or rows."""

    lost: list[str]
    wrong: list[str]
    duplicated: list[str]
    leftovers: list[str]


def compare(left: Left, whole: Left, unsteady: set[str], finished_before: int) -> Compared:
    """Compare with an uninterrupted run. finished_before: runs that were published before the kill, and rightly stay.

    unsteady: files that two uninterrupted runs write differently; only that they are there counts.
    """
    lost, wrong, duplicated, leftovers = [], [], [], []
    for name in sorted(whole.files.keys() | left.files.keys()):
        once, found = whole.files.get(name, []), left.files.get(name, [])
        times = 1 + finished_before if "/RUN-" in name else 1
        if not once:
            leftovers += [name] * len(found)
        elif len(found) < len(once) * times:
            lost.append(name)
        elif len(found) > len(once) * times:
            duplicated.append(name)
        elif name not in unsteady and Counter(found) != Counter(once * times):
            wrong.append(name)
    return Compared(lost, wrong, duplicated, leftovers)


def unsteady_files(first: Left, second: Left) -> set[str]:
    """Name the files that two uninterrupted runs write differently."""
    return {name for name, found in first.files.items() if second.files.get(name) != found}


def compare_stores(url: str, whole: str) -> Compared:
    """Compare two stores row by row, by the key of the volume."""
    found, index = diff_stores(url, whole), open_reader(url).index()
    rows = {"lost": found["only_b"], "wrong": found["different"] + found["only_a"]}
    twice = int(index["key"].duplicated().sum()) if "key" in index else 0
    return Compared(*([f"{count} rows of {url}"] * bool(count) for count in (rows["lost"], rows["wrong"], twice, 0)))
