"""results/<machine>.json: what was measured, with which versions, when, and how busy the machine was."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sources import current_commit, sources_digest

from embeddings_store.terminal.provenance import package_versions

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "octprobe",
    "numpy",
    "scipy",
    "torch",
    "scikit-learn",
    "lightgbm",
    "zarr",
    "pydicom",
    "monai",
    "transformers",
)


def machine_name() -> str:
    """Name the kind of machine, never the host: linux-x86_64-2cpu."""
    return f"{platform.system()}-{platform.machine()}-{os.cpu_count()}cpu".lower()


def make_record(
    rows: Sequence[Mapping[str, Any]], earlier: Mapping[str, Any] | None, *, today: date, cores: int
) -> dict[str, Any]:
    """Join new rows with earlier ones of the same versions of others; a benchmark replaces all its rows of one size.

    A package that is not installed now is no other version: the earlier rows stay, and what they say of it.

    Each row keeps the date and commit of its own measurement, and the digest of the code that it measured.
    provisional: some row was measured while more was waiting to run than there are cores.
    """
    versions, commit = package_versions(PACKAGES), current_commit()
    stamped: list[dict[str, Any]] = [
        {**row, "date": today.isoformat(), "commit": commit, "sources": sources_digest(row["bench"])} for row in rows
    ]
    kept = list(earlier["rows"]) if earlier and not changed_versions(earlier["versions"], versions) else []
    if earlier and kept:
        versions = {**earlier["versions"], **versions}
    replaced = {(row["bench"], row["full"]) for row in stamped}
    stamped += [row for row in kept if (row["bench"], row["full"]) not in replaced]
    ordered = sorted(stamped, key=lambda row: (int(row["id"].removeprefix("P")), row["full"]))
    return {
        "machine": machine_name(),
        "versions": versions,
        "provisional": any(row["load_average"]["before"] > cores for row in ordered),
        "rows": ordered,
    }


def changed_versions(earlier: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the packages that both know with another version, but this project, whose code rows know by commit."""
    return [name for name in earlier if name in now and name != "octprobe" and earlier[name] != now[name]]


def read_record(path: Path) -> dict[str, Any] | None:
    """Read an earlier result file; None where there is none."""
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write aside, publish by rename."""
    aside = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    aside.replace(path)
