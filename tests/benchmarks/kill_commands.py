"""Kill every command of the house at random moments, run it again, and compare with a run that was left alone.

Each trial has a folder of its own. The command is started (several at once where ranks share the work), is killed by
KILL, TERM, HUP or INT at a random moment of its own duration, and is run again to its end. Then what counts is compared
with an uninterrupted run: rows of the store, files of runs without times, pages without dates, numbers in the mirror.
Processes that live on 5 s after the end, and files that nobody asked for, are counted.

    export PYTHONPATH=tests:tests/benchmarks
    python tests/benchmarks/kill_commands.py --kills 200 --seed 1 --write-page
    python tests/benchmarks/kill_commands.py --kills 10 --only probe,track
"""

import argparse
import atexit
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kill_digests import Compared, Left, compare, compare_stores, look, unsteady_files
from kill_kinds import Kind, Line, chosen, copy_state, prepare
from rclone_server import rclone_s3
from reliability_page import COUNTS, RESULT, draw_page, markdown_kills
from sources import current_commit

MAINS = {
    "oct-phantom": "extract.phantom.cli", "extract-embeddings": "extract.cli", "classify": "classify.cli",
    "finetune": "finetune.cli", "reports": "reports.cli",
}  # fmt: skip
WARM = {
    "oct-phantom": (),
    "extract-embeddings": ("torch", "pandas", "pyarrow.parquet", "boto3", "zarr", "extract.pipeline"),
    "classify": ("sklearn.linear_model", "lightgbm", "optuna", "classify.probe", "classify.compare"),
    "finetune": ("finetune.tune",),
    "reports": ("matplotlib.pyplot", "highdicom", "nibabel", "mlflow", "reports.study", "reports.case"),
}
"""What commands import, and a child has already."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
OF_THE_TERMINAL = (signal.SIGHUP, signal.SIGINT)
"""A terminal sends these to every process in the foreground; the others meet the command alone."""
ENDS_WITHIN_S, OTHERS_S, GRACE_S, RUNS_WITHIN_S = 30.0, 10.0, 5.0, 180.0
DONE = (0, 3)
MARK = "KILL_TRIAL"


@dataclass
class Row:
    """What a command and a signal gave."""

    command: str
    signal: str
    kills: int = 0
    lost: int = 0
    wrong: int = 0
    duplicated: int = 0
    leftovers: int = 0
    processes_left: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, found: Compared, processes: list[str]) -> None:
        """Count one kill."""
        self.kills += 1
        for name in ("lost", "wrong", "duplicated", "leftovers"):
            ones = getattr(found, name)
            setattr(self, name, getattr(self, name) + len(ones))
            self.examples += [f"{name}: {one}" for one in ones[:2]]
        self.processes_left += len(processes)
        self.examples += [f"process: {one}" for one in processes[:2]]


class World:
    """The folder of all trials, and how commands are started in it: in children of this process, which never works.

    A child costs milliseconds, as all that commands import is there already, so that kills meet their work.
    """

    def __init__(self, root: Path, surroundings: dict[str, str]) -> None:
        self.root, self.surroundings, self.trials = root, surroundings, 0

    def new_trial(self, kind: Kind) -> Path:
        """Make the folder of one trial."""
        self.trials += 1
        folder = copy_state(self.root / "base", kind.needs, self.root / f"trial-{self.trials}")
        (folder / "tmp").mkdir()
        return folder

    def start(self, line: Line, folder: Path, number: int = 0) -> int:
        """Start a command in a child; give its process id."""
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.setsid()
            self._settle(folder, number)
            sys.argv = [word.format(trial=folder.name) for word in line]
            importlib.import_module(MAINS[line[0]]).main()
        except SystemExit as end:
            code = int(end.code or 0) if isinstance(end.code, int | None) else 1
        except BaseException:  # noqa: BLE001 - what a command lets through is a finding, and is in its log
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                atexit._run_exitfuncs()
            os._exit(code)

    def _settle(self, folder: Path, number: int) -> None:
        os.chdir(folder)
        log = os.open(f"log-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(self.surroundings)
        os.environ |= {MARK: folder.name, "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache")}
        tempfile.tempdir = None

    def finish(self, kind: Kind, folder: Path) -> tuple[list[int], float]:
        """Run all lines of a kind to their end; give their exit codes and the seconds."""
        started = time.monotonic()
        pids = [self.start(line, folder, number) for number, line in enumerate(kind.lines)]
        codes = [wait(pid, RUNS_WITHIN_S) for pid in pids]
        return codes, time.monotonic() - started

    def complete(self, line: Line, folder: Path) -> None:
        """Run a line that prepares something. Raises RuntimeError where it fails."""
        (folder / "tmp").mkdir(exist_ok=True)
        code = wait(self.start(line, folder), RUNS_WITHIN_S)
        if code not in (0, 3):
            raise RuntimeError(f"{' '.join(line)}: exit code {code}: {(folder / 'log-0').read_text()[-2000:]}")
        shutil.rmtree(folder / "tmp")
        (folder / "log-0").unlink()


def ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a child, whose threads then end with it; give what it returned, or an error's words."""
    out, into = os.pipe()
    if os.fork() == 0:
        os.close(out)
        try:
            answer = ("", call(*arguments))
        except Exception as error:  # noqa: BLE001 - shown by the parent
            answer = (f"{type(error).__name__}: {error}", None)
        with os.fdopen(into, "w") as pipe:
            json.dump((answer[0], None if answer[1] is None else asdict(answer[1])), pipe)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        error, given = json.load(pipe)
    os.wait()
    return error, given


def looked(folder: Path) -> Left:
    """Look at a trial's folder in a child. Raises RuntimeError."""
    error, given = ask(look, folder, folder / "tmp")
    if error:
        raise RuntimeError(f"{folder.name}: {error}")
    return Left(**given)


def wait(pid: int, seconds: float, last: signal.Signals | None = None) -> int | None:
    """Wait for a child: its exit code, -N after signal N; None where it was still alive and was killed.

    last: a signal that it gets first, and ENDS_WITHIN_S to obey.
    """
    for limit in (seconds,) if last is None else (seconds, ENDS_WITHIN_S):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.003)
        os.kill(pid, last or signal.SIGKILL)
    if last:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def living(folder: Path, sessions: list[int]) -> list[tuple[int, str]]:
    """List processes that belong to a trial: of its sessions, or with its mark in their surroundings."""
    mark, found = f"{MARK}={folder.name}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            mine = int(status[3]) in sessions or mark in (path / "environ").read_bytes() + b"\0"
            if mine and status[0] != "Z":
                found.append((int(path.name), (path / "cmdline").read_text().replace("\0", " ")[:120]))
    return found


def end_of(folder: Path, sessions: list[int]) -> list[str]:
    """Wait until a trial has no process any more; name, and end, those that live on."""
    end = time.monotonic() + GRACE_S
    while (found := living(folder, sessions)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid, _ in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [words for _, words in found]


@dataclass(frozen=True)
class Whole:
    """What an uninterrupted run of a kind gives."""

    left: Left
    unsteady: set[str]
    codes: list[int]
    seconds: float
    store: str


def run_whole(world: World, kind: Kind) -> Whole:
    """Run a kind twice without a kill."""
    lefts, seconds = [], []
    for _ in range(2):
        folder = world.new_trial(kind)
        codes, took = world.finish(kind, folder)
        if not {*codes} <= {0, 1, 3} or (1 in codes and "verify" not in kind.name):
            raise RuntimeError(f"{kind.name}: exit codes {codes}: {(folder / 'log-0').read_text()[-3000:]}")
        lefts.append(looked(folder))
        seconds.append(took)
    return Whole(lefts[0], unsteady_files(*lefts), codes, min(seconds), store_of(kind, folder))


def store_of(kind: Kind, folder: Path) -> str:
    return f"s3://kills/{folder.name}/store" if kind.s3 else str(folder / "store")


def kill_once(world: World, kind: Kind, whole: Whole, number: signal.Signals, rng: random.Random) -> Any:
    """Kill a command once and run it again; None where it was over before it was hit."""
    folder, after = world.new_trial(kind), rng.random() * whole.seconds
    pids = [world.start(line, folder, at) for at, line in enumerate(kind.lines)]
    victims = rng.sample(pids, rng.randint(1, len(pids)))
    time.sleep(after)
    for pid in victims:
        with suppress(ProcessLookupError):
            (os.killpg if number in OF_THE_TERMINAL else os.kill)(pid, number)
    ended = {pid: wait(pid, ENDS_WITHIN_S) for pid in victims}
    for pid in set(pids) - set(victims):  # which may wait for rank 0, for minutes
        ended[pid] = wait(pid, OTHERS_S, last=signal.SIGTERM)
    processes = end_of(folder, pids) + [f"hung after {number.name}"] * list(ended.values()).count(None)
    if all(ended[pid] in DONE for pid in victims):
        shutil.rmtree(folder)
        return None
    before = sum(1 for _ in folder.glob("runs/[!.]*/run.json")) if kind.again else 0
    codes, _ = world.finish(kind, folder)
    found = compare(looked(folder), whole.left, whole.unsteady, before)
    if not {*codes} <= {*DONE, *whole.codes}:
        found.wrong.append(f"exit codes {codes}: {last_words(folder)}")
    if kind.needs != "runs":
        found = judge_store(kind, folder, whole, found) if "extract" in str(kind.lines) else found
    if not (found.lost or found.wrong or found.duplicated or found.leftovers or processes):
        shutil.rmtree(folder)
    return found, processes, after


def judge_store(kind: Kind, folder: Path, whole: Whole, found: Compared) -> Compared:
    error, given = ask(compare_stores, store_of(kind, folder), whole.store)
    if error:
        found.wrong.append(error)
        return found
    return Compared(**{name: [*getattr(found, name), *ones] for name, ones in given.items()})


def last_words(folder: Path) -> str:
    return " | ".join(path.read_text().strip()[-200:] for path in sorted(folder.glob("log-*")))


def torment(world: World, kind: Kind, kills: int, rng: random.Random, tell: Callable[[str], None]) -> list[Row]:
    """Kill one kind of command so often, by all signals in turn."""
    whole = run_whole(world, kind)
    tell(f"{kind.name}: {whole.seconds:.1f} s alone; not compared: {shortened(whole.unsteady) or 'nothing'}")
    rows = {one: Row(kind.name, one.name.removeprefix("SIG")) for one in SIGNALS}
    for at in range(kills):
        number = SIGNALS[(at + rng.randrange(4)) % 4] if kills < 4 else SIGNALS[at % 4]
        while (outcome := kill_once(world, kind, whole, number, rng)) is None:
            pass
        found, processes, after = outcome
        rows[number].add(found, processes)
        bad = found.lost + found.wrong + found.duplicated + found.leftovers + processes
        outcome = f"{bad} (trial {world.trials})" if bad else "equal"
        tell(f"{kind.name}: {number.name} after {after:.2f} s: {outcome}")
    return [row for row in rows.values() if row.kills]


def shortened(names: set[str]) -> list[str]:
    """Name the kinds of files, numbers left out."""
    return sorted({re.sub(r"\d+", "N", name) for name in names})


@contextmanager
def world_at(root: Path, kinds: list[Kind]) -> Iterator[World]:
    """Prepare all that the kinds need, and a server for those on S3."""
    surroundings = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MPLBACKEND": "agg"}
    surroundings |= {"AWS_EC2_METADATA_DISABLED": "true"}
    world = World(root, surroundings)
    prepare(root / "base", {kind.needs for kind in kinds}, world.complete)
    if not any(kind.s3 for kind in kinds):
        yield world
        return
    (root / "buckets" / "kills").mkdir(parents=True)
    shutil.copytree(root / "base" / "bucket" / "bucket", root / "buckets" / "eye")
    with rclone_s3(root / "buckets") as (endpoint, access_key, secret_key):
        names = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        world.surroundings |= names
        os.environ.update(names)
        yield world


def main() -> int:
    """Kill, and say what was found: 0 where nothing was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="Words in the names of commands, with commas between.")
    parser.add_argument("--json", type=Path, help="Where the rows are kept; rows of other commands there stay.")
    parser.add_argument("--write-page", action="store_true", help="Keep the rows, and renew docs/reliability.md.")
    options = parser.parse_args()
    options.json = RESULT if options.write_page else options.json
    kinds = chosen([word for word in options.only.split(",") if word])
    warm(kinds)
    gc.freeze()
    root, shares = Path(tempfile.mkdtemp(prefix="kills-")), sum(kind.share for kind in kinds)
    rows: list[dict[str, Any]] = []
    with world_at(root, kinds) as world:
        for kind in kinds:
            kills = max(1, round(options.kills * kind.share / shares))
            rng = random.Random(f"{options.seed} {kind.name}")
            found = torment(world, kind, kills, rng, lambda text: print(text, file=sys.stderr, flush=True))
            rows += (stamped := [asdict(row) | _stamp(options.seed) for row in found])
            if options.json:
                keep(options.json, stamped)
    if options.write_page:
        draw_page()
    sys.stdout.write(markdown_kills(rows) + "\n")
    bad = any(row[name] for row in rows for name in COUNTS[1:])
    if not bad:
        shutil.rmtree(root)
    return int(bad)


def warm(kinds: list[Kind]) -> None:
    """Import what the commands need."""
    programs = {"oct-phantom", "extract-embeddings", *(line[0] for kind in kinds for line in kind.lines)}
    if any(kind.needs == "runs" for kind in kinds):
        programs.add("classify")
    for program in sorted(programs):
        for name in (MAINS[program], *WARM[program]):
            importlib.import_module(name)


def _stamp(seed: int) -> dict[str, Any]:
    return {"date": datetime.now(UTC).date().isoformat(), "commit": current_commit(), "seed": seed}


def keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows in place of earlier ones of the same commands."""
    record = json.loads(path.read_text()) if path.exists() else {}
    names = {row["command"] for row in rows}
    record["kills"] = [row for row in record.get("kills", []) if row["command"] not in names] + rows
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
