"""A process that others gave work: the whole way from the bucket to the stores, for the volumes that it is given.

The driver calls one method after the other; only ``look`` is answered meanwhile. Errors for people travel as values,
because a cluster would wrap an exception in its own words.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from traceback import extract_tb
from typing import TypeVar

from embeddings_store.errors import OctProbeError, RunError, StoreError
from embeddings_store.machine import usable_memory_bytes
from embeddings_store.storage import open_storage
from embeddings_store.terminal.provenance import code_commit, package_versions
from extract.bucket.source import TransferCounts
from extract.device.select import open_device
from extract.engines.account import Account, account_here
from extract.engines.channel import Channel, GivenUpError
from extract.engines.local import run_local
from extract.engines.work import Pass
from extract.engines.workers import Share, Workers, choose_workers
from extract.load import new_loader
from extract.options import ExtractOptions
from extract.progress import Progress
from extract.selection import open_bucket, with_cache
from extract.stages import StageClock
from extract.stop import StopRequest
from extract.targets import Job, OpenedEncoder, Target, open_encoders, open_store

PACKAGE = "octprobe"
LOOK_S = 0.3

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker opens. cores: its share of the node; neighbours: how many workers share the node's memory."""

    options: ExtractOptions
    cores: int
    neighbours: int


@dataclass(frozen=True, slots=True)
class Build:
    """Which code runs."""

    version: str
    commit: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker is once it is open; spaces: the ids of the embedding spaces that it fills, by target."""

    build: Build
    spaces: tuple[str, ...]
    threads: Workers
    account: Account


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What a worker has done since it was opened. done, errors: rows; transfer: the fields of TransferCounts.

    passes: how many runs of volumes are over. failure: what must stop the whole run.
    """

    done: int
    errors: int
    seconds: Mapping[str, float]
    transfer: Mapping[str, int]
    passes: int
    failure: OctProbeError | None
    account: Account


def build_here() -> Build:
    """Tell version and commit of the code in this process."""
    return Build(package_versions([PACKAGE]).get(PACKAGE, ""), code_commit())


@dataclass
class HiredWorker:
    """Opens everything once, and encodes what it is given until it is dismissed. Needs no cluster to be tried."""

    assignment: Assignment
    _clock: StageClock = field(default_factory=StageClock)
    _progress: Progress = field(default_factory=lambda: Progress(0))
    _stop: StopRequest = field(default_factory=StopRequest)
    _targets: list[Target] = field(default_factory=list)
    _jobs: Channel[Job] | None = None
    _passes: int = 0
    _failure: OctProbeError | None = None

    def open(self) -> Greeting | OctProbeError:
        """Open device, encoders and bucket; touch no store."""
        return _as_value(self._open)

    def open_stores(self, driver_ids: Sequence[int]) -> OctProbeError | None:
        """Open the stores for writing. driver_ids: who opened them before, whose record must be seen from here, too."""
        return _as_value(lambda: self._open_stores(driver_ids))

    def give(self, jobs: Sequence[Job]) -> None:
        """Take volumes; the first of them begin a pass."""
        if self._jobs is None:
            self._jobs = Channel[Job](makers=1)
            Thread(target=self._run, args=(self._jobs,), daemon=True).start()
        try:
            for job in jobs:
                self._jobs.put(job)
        except GivenUpError:  # it was asked to stop, or has failed: what is lacking is left to others
            return

    def end(self) -> None:
        """Finish what was given, short batches too; what is given later begins another pass."""
        if self._jobs is not None:
            self._jobs.leave()
        self._jobs = None

    def stop(self, signal_number: int) -> None:
        """Finish only what the encoder has begun."""
        self._stop.ask(signal_number)
        self.end()

    def look(self) -> WorkReport:
        """WorkReport, after a moment."""
        time.sleep(LOOK_S)
        passes = self._passes  # first: whatever a pass did is counted before it is over
        return WorkReport(
            done=self._progress.done,
            errors=self._progress.errors,
            seconds=self._clock.seconds(),
            transfer=_whole_numbers(self._source.counts),
            passes=passes,
            failure=self._failure,
            account=account_here(self._backend, self._encoders),
        )

    def _open(self) -> Greeting:
        options = self.assignment.options
        self._backend = open_device(options.device, options.precision)
        self._encoders = open_encoders(options, self._backend)
        self._source = with_cache(open_bucket(options), options)
        self._loader = new_loader(
            self._source,
            self._encoders[0].recipe,
            self._clock,
            partial_reads=options.partial_reads,
            views=options.views,
            allowed=options.allowed_classes,
            room=self._backend.room,
        )
        share = Share(self.assignment.cores, usable_memory_bytes() // self.assignment.neighbours)
        self._threads = choose_workers(options, self._backend, self._encoders, share)
        spaces = tuple(one.space.id for one in self._encoders)
        return Greeting(build_here(), spaces, self._threads, account_here(self._backend, self._encoders))

    def _open_stores(self, driver_ids: Sequence[int]) -> None:
        for opened, driver_id in zip(self._encoders, driver_ids, strict=True):
            _require_shared(opened, driver_id, self.assignment.options)
        options, backend = self.assignment.options, self._backend
        self._targets = [Target(one, open_store(one, options, backend), {}) for one in self._encoders]

    def _run(self, jobs: Channel[Job]) -> None:
        self._stop.tell(jobs.give_up)
        loader, backend, counts = self._loader, self._backend, self._source.counts
        work = Pass(jobs, self._targets, loader, backend, self._clock, counts, self._progress, self._stop)
        try:
            run_local(work, self._threads)
        except OctProbeError as error:
            self._failure = error
        except BaseException as error:  # noqa: BLE001 - nobody joins this thread: the next report tells
            self._failure = unexpected(error)
        finally:
            jobs.give_up()
            self._passes += 1


def _as_value(work: Callable[[], Answer]) -> Answer | OctProbeError:
    try:
        return work()
    except OctProbeError as error:
        return error


def _require_shared(opened: OpenedEncoder, driver_id: int, options: ExtractOptions) -> None:
    is_seen = "://" in opened.store or Path(opened.store).is_dir()
    if is_seen:
        storage = open_storage(opened.store, endpoint_url=options.endpoint_url, create=False)
        is_seen = storage.get(f"workers/{driver_id}.json") is not None
    if not is_seen:
        raise StoreError(
            f"{opened.store} is another folder there than where the command was typed; expected storage that every "
            "node shares: s3://bucket/prefix, or a folder that all of them mount"
        )


def unexpected(error: BaseException) -> RunError:
    """Name the place of a failure, but not the words: a foreign message may quote a file's name."""
    place = extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return RunError(f"unexpected {type(error).__name__} at {where}; please report it")


def _whole_numbers(counts: TransferCounts) -> dict[str, int]:
    return {name: number for name, number in vars(counts).items() if isinstance(number, int)}
