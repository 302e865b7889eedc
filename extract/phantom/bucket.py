"""Write a whole phantom bucket: aside in --out first, then by rename, participants.tsv last."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings_store.errors import UsageError
from embeddings_store.publish import ASIDE, place_aside
from extract.phantom.broken import Damage, break_bucket
from extract.phantom.measurements import MEASUREMENTS, measurements_text
from extract.phantom.participants import Participant, draw_participants
from extract.phantom.plan import EYES, Plan
from extract.phantom.scanners import PROTOCOLS
from extract.phantom.tables import ManifestRow, manifest_text, participants_text
from extract.phantom.worker import Written, write_participant

TABLE = "participants.tsv"

SCAN_VOXELS = 100_000
"""What a scan costs beyond its voxels, in voxels."""

PROCESS_VOXELS = 30_000_000
"""Two seconds of work: a process takes half a second to start, and as long of a core."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What was made. files: healthy scans; bytes: everything below the root; participants: rows of the table."""

    participants: int
    files: int
    bytes: int
    seed: int
    broken: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def generate(plan: Plan, out: Path, workers: int, advance: Callable[[], None]) -> Summary:
    """Make the bucket of a plan at ``out``; advance() is called once a finished participant.

    Raises: UsageError when ``out`` is a file or not empty, or another process is writing there.
    """
    octa = any(PROTOCOLS[name].octa for name in plan.protocols)
    people = draw_participants(plan.participants, plan.seed, octa=octa, site_follows_class=plan.confound == "site")
    _require_empty(out)
    with place_aside(out / "bucket", alone=True) as side:
        side.mkdir()
        written = [one for scans in _all_scans(side, plan, people, workers, advance) for one in scans]
        damage = break_bucket(side, plan, people)
        _write_tables(side, plan, people, written, damage)
        size = sum(path.stat().st_size for path in side.rglob("*") if path.is_file())
        rows = len(people) + sum(len(one.people) for one in damage.values())
        _publish(side, out)
    return Summary(rows, len(written), size, plan.seed, {kind: one.keys for kind, one in damage.items()})


def count_workers(plan: Plan, most: int) -> int:
    """Give how many processes pay for their start."""
    shapes = [plan.protocol(name) for name in plan.protocols]
    voxels = sum(SCAN_VOXELS + one.rows * one.columns * one.frames for one in shapes)
    return min(most, 1 + plan.participants * len(EYES) * voxels // PROCESS_VOXELS)


def _all_scans(
    side: Path, plan: Plan, people: list[Participant], workers: int, advance: Callable[[], None]
) -> Iterator[list[Written]]:
    """Make each participant's scans, in order of the ids, in this process or in several."""
    if workers <= 1 or len(people) == 1:
        for person in people:
            yield write_participant(side, plan, person)
            advance()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(people)), mp_context=context) as pool:
        futures = [pool.submit(write_participant, side, plan, person) for person in people]
        try:
            for future in futures:
                yield future.result()
                advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _require_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: expected a new or empty folder, got a file; choose another place")
    out.mkdir(parents=True, exist_ok=True)
    if any(path.suffix != ASIDE for path in out.iterdir()):
        raise UsageError(f"--out {out}: expected a new or empty folder, got one with content; choose another place")


def _write_tables(
    side: Path, plan: Plan, people: list[Participant], written: list[Written], damage: dict[str, Damage]
) -> None:
    if plan.manifest:
        rows: list[ManifestRow] = [one.row for one in written]
        rows += [row for one in damage.values() for row in one.rows]
        (side / "retinal_oct" / "manifest.tsv").write_text(manifest_text(rows, plan.schema), encoding="utf-8")
    if plan.measurements:
        (side / MEASUREMENTS).parent.mkdir(parents=True)
        (side / MEASUREMENTS).write_text(measurements_text(people, plan.seed), encoding="utf-8")
    everybody = people + [person for one in damage.values() for person in one.people]
    (side / TABLE).write_text(participants_text(everybody, plan.schema), encoding="utf-8")


def _publish(side: Path, out: Path) -> None:
    """Move the finished parts into place, the table last, as its presence says that the bucket is whole."""
    for part in sorted(side.iterdir(), key=lambda path: path.name == TABLE):
        part.rename(out / part.name)
