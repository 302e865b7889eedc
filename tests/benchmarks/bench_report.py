"""P15: pages at full size: the study page of 25,000 volumes, and the case page of one participant. No peer."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from comparison import Goal, Row
from peak_memory import is_measurable, measure_peak
from settings import Settings
from store_makings import FACTS, FULL_GRID, WIDTH, WORKER, make_ref, make_space

from classify.cohort.tasks import STUDY_GROUPS
from embeddings_store.grid import Grid
from embeddings_store.schema import ParticipantId, VolumeRef, site_of
from embeddings_store.snapshot import write_snapshot
from embeddings_store.writer import open_writer

SCRIPTS = Path(sys.executable).parent
STUDY_SCANS, CASE_SCANS = 11, 6  # of a participant
CASE_PEOPLE = 30  # with full tokens: 2.5 GB
STUDY_S, STUDY_MB, CASE_S = 120.0, 2000.0, 5.0
SPLITS = ("train", "train", "train", "val", "test")


def measure(settings: Settings) -> list[Row]:
    volumes, grid = (330, (4, 6, 6)) if settings.quick else (25_000, FULL_GRID)
    made = _make_study(settings.folder / "study", volumes, STUDY_SCANS, None)
    rows = [_time_study(made, volumes), *_peak_of_study(made, volumes)]
    case = _make_study(settings.folder / "case", CASE_PEOPLE * CASE_SCANS, CASE_SCANS, grid)
    return [*rows, *_time_case(case, grid)]


def _make_study(folder: Path, volumes: int, scans: int, grid: Grid | None) -> Path:
    """Make a store of random vectors in which class and site move a few channels, its participants, and a run."""
    rng = np.random.default_rng(0)
    writer = open_writer(str(folder / "store"), make_space(grid), capacity=volumes, worker=WORKER)
    refs = [_of_site(make_ref(row), row // scans) for row in range(volumes)]
    writer.add_volumes(refs)
    for row, ref in enumerate(refs):
        vectors = rng.standard_normal((1, 3, WIDTH), dtype=np.float32)
        vectors[0, 0, :8] += 0.3 * (int(ref.participant) % len(STUDY_GROUPS))
        tokens = (
            {} if grid is None else {"last": rng.standard_normal((*grid, WIDTH), dtype=np.float32).astype(np.float16)}
        )
        writer.write_row(row, vectors, tokens, FACTS, bytes(16), 130_000_000)
    write_snapshot(str(folder / "store"))
    _write_participants(folder / "participants.tsv", sorted({str(ref.participant) for ref in refs}))
    _call("classify", "probe", "--model", "linear", "--pool", "mean", "--store", folder / "store", "--participants",
          folder / "participants.tsv", "--runs", folder / "runs")  # fmt: skip
    return folder


def _of_site(ref: VolumeRef, number: int) -> VolumeRef:
    """Give the volume to a participant whose id encodes one of the three sites, as in the dataset."""
    return replace(ref, participant=ParticipantId(f"{'147'[number % 3]}{number // 3:03d}"))


def _write_participants(path: Path, people: list[str]) -> None:
    header = "participant_id\tclinical_site\tstudy_group\tage\trecommended_split\tretinal_oct"
    lines = [
        f"{name}\t{site_of(name)}\t{STUDY_GROUPS[int(name) % 4]}\t{45 + int(name) % 30}\t{SPLITS[place % 5]}\tTRUE"
        for place, name in enumerate(people)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")


def _time_study(made: Path, volumes: int) -> Row:
    seconds, _ = _timed("reports", "study", *_options(made), "--json")
    size = (made / "report" / "study.html").stat().st_size / 1e6
    return Row(
        id="P16", work=f"reports study, {volumes:,} volumes x {WIDTH}", peer="none", unit="s", ours=seconds, rounds=1,
        goal=Goal(ours=STUDY_S), notes=f"the whole command; a page of {size:.1f} MB",
    )  # fmt: skip


def _peak_of_study(made: Path, volumes: int) -> list[Row]:
    if not is_measurable():
        return []
    work = f"reports study, {volumes:,} volumes x {WIDTH}: memory"
    peak, goal = measure_peak("bench_report", "study", made=str(made)).highest_mb, Goal(ours=STUDY_MB)
    return [Row(id="P16", work=work, peer="none", unit="MB", ours=peak, rounds=1, goal=goal, notes="whole process")]


def _time_case(made: Path, grid: Grid) -> list[Row]:
    run = next(made.glob("runs/*/run.json")).parent.name
    asked = ("--json", "--run", run, "--participant", _of_val(made))
    seconds, said = _timed("reports", "case", *_options(made), *asked)
    case = json.loads(said)["cases"][0]
    work = f"reports case, one participant, {case['scans']} scans with {'x'.join(map(str, grid))} tokens"
    return [
        Row(id="P16", work=work, peer="none", unit="s", ours=seconds, rounds=1, goal=Goal(ours=CASE_S),
            notes=f"the whole command from the store, no pictures; a page of {case['size_bytes'] / 1e6:.2f} MB"),
    ]  # fmt: skip


def _of_val(made: Path) -> str:
    lines = (made / "participants.tsv").read_text().splitlines()
    return next(line.split("\t")[0] for line in lines if "\tval\t" in line)


def _options(made: Path) -> tuple[object, ...]:
    return ("--store", made / "store", "--runs", made / "runs", "--out", made / "report")


def _study_in_this_process(made: str) -> Callable[[], object]:
    """Prepare nothing: the command imports, reads and draws all by itself."""

    def work() -> None:
        from reports.cli import main

        sys.argv = ["reports", "study", *map(str, _options(Path(made)))]
        try:
            main()
        except SystemExit as left:
            assert not left.code, f"reports study left with {left.code}"

    return work


MEMORY = {"study": _study_in_this_process}


def _timed(name: str, *arguments: object) -> tuple[float, str]:
    start = perf_counter()
    said = _call(name, *arguments)
    return perf_counter() - start, said


def _call(name: str, *arguments: object) -> str:
    done = subprocess.run([str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout
