"""The engine of workers in other processes: each does the whole way, and here the volumes are shared out among them.

Rows are written by the workers themselves, and whether one exists only its commit says. So a worker that is lost costs
what it had not committed: that goes back to the queue, and to others.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from embeddings_store.command_line import several
from embeddings_store.errors import OctProbeError, RunError
from embeddings_store.terminal.console import say
from extract.encoder_options import ONNX, EncoderChoice
from extract.engines.account import Account, account_together
from extract.engines.cluster import LOOK, Cluster, LostWorkerError, Seat
from extract.engines.hand import Hand
from extract.engines.hired_worker import Assignment, Build, Greeting, WorkReport, build_here
from extract.engines.job_queue import JobQueue
from extract.engines.work import Engine, OpenedEncoders, Pass
from extract.options import ExtractOptions
from extract.targets import Job, Target

PATIENCE_S = 600.0
LATE_S = 30.0  # how long workers are waited for when the first of them is open; later ones join the run
PAUSE_S = 0.5
LOSSES_IN_VAIN = 5  # workers lost one after the other without a row in between: it is not the nodes


@contextmanager
def engine_on(cluster: Cluster, opened: OpenedEncoders) -> Iterator[Engine]:
    """Give the engine that works on a cluster, with workers that are open. Raises: RunError."""
    engine = SharingEngine(cluster, opened)
    try:
        engine.open()
        yield engine
    finally:
        engine.close()


class SharingEngine:
    """Hires workers, hears what they say, and gives them volumes."""

    def __init__(self, cluster: Cluster, opened: OpenedEncoders) -> None:
        self._cluster, self._name, self._opened = cluster, cluster.name, opened
        self._spaces = tuple(one.space.id for one in opened.encoders)
        self._build = build_here()
        self._options = with_whole_paths(opened.options)
        self._workers: Counter[str] = Counter()
        self._accounts: dict[Hand, Account] = {}
        self._queue, self._driver_ids = JobQueue([]), list[int]()
        self._losses, self._stopping = 0, False
        self._hands = [self._hire(seat) for seat in cluster.seats]

    @property
    def workers(self) -> Mapping[str, int]:
        """Give the threads of all workers that are open; workers that come later are added."""
        return self._workers

    def open(self) -> None:
        """Wait for workers: for one as long as it takes to be patient, for the others a little. Raises: RunError."""
        say(f"{self._name}: opening {len(self._hands)} workers")
        start, first = time.monotonic(), None
        while self._opening() and (first is None or time.monotonic() - first < LATE_S):
            self._hear_all(None)
            first = first or (time.monotonic() if self._open() else None)
            self._require_somebody(start)

    def describe(self) -> str:
        """Say who works, and where."""
        seats = [hand.seat for hand in self._open()]
        kind, machines = seats[0].kind, len({seat.address for seat in seats})
        lines = [f"{self._name}: workers: {len(seats)}, one a {kind}; machines: {machines}"]
        lines += [f"{self._name}: still to be opened: {count}" for count in [len(self._opening())] if count]
        for text, count in Counter(hand.describe_threads() for hand in self._open()).items():
            lines.append(f"{count} x {text}")
        folders = [output.store for output in self._opened.options.outputs if "://" not in output.store]
        if machines > 1 and folders:
            lines.append(f"{self._name}: {', '.join(folders)}: every machine must mount this folder")
        return "\n".join(lines)

    def run(self, work: Pass) -> Account:
        """Share the volumes out until each is a row or an error row."""
        self._queue = JobQueue(work.jobs)
        self._driver_ids = [target.writer.worker_id for target in work.targets]
        for hand in self._open():
            self._ask(hand, "open_stores", self._driver_ids)
        alone_since = time.monotonic()
        while len(self._queue) or any(hand.is_at_work for hand in self._hands):
            self._hear_all(work)
            if work.stop.signal_number is not None:
                self._pass_on(work.stop.signal_number)
            alone_since = time.monotonic() if self._open() else alone_since
            self._require_somebody(alone_since)
        return account_together(list(self._accounts.values()))

    def close(self) -> None:
        """Dismiss every worker."""
        for hand in self._hands:
            self._cluster.dismiss(hand.worker)

    def _open(self) -> list[Hand]:
        return [hand for hand in self._hands if hand.greeting is not None]

    def _opening(self) -> list[Hand]:
        return [hand for hand in self._hands if hand.greeting is None]

    def _hire(self, seat: Seat, *, counted: bool = False) -> Hand:
        options = replace(self._options, device=seat.device)
        worker = self._cluster.hire(seat, Assignment(options, seat.cores, seat.neighbours))
        return Hand(seat, worker, self._cluster.ask(worker, "open"), counted)

    def _ask(self, hand: Hand, method: str, *given: Any) -> None:
        hand.question = self._cluster.ask(hand.worker, method, *given)

    def _hear_all(self, work: Pass | None) -> None:
        """Hear whoever has something to say; work: None as long as nothing is to be done."""
        asked = {hand.question: hand for hand in self._hands if hand.question is not None}
        for question in self._cluster.answered(list(asked), PAUSE_S):
            hand = asked[question]
            hand.question = None
            try:
                answer = self._cluster.answer(question)
            except LostWorkerError as error:
                self._replace(hand, str(error), work)
                continue
            if isinstance(answer, OctProbeError):
                raise hand.blame(answer)
            self._hear(hand, answer, work)

    def _hear(self, hand: Hand, answer: Greeting | WorkReport | None, work: Pass | None) -> None:
        if isinstance(answer, Greeting):
            self._welcome(hand, answer)
            if work is not None:
                self._ask(hand, "open_stores", self._driver_ids)
            return
        if work is None:
            return
        if isinstance(answer, WorkReport):
            self._note(hand, answer, work)
        if not self._stopping:
            self._feed(hand)
        if hand.is_at_work:
            self._ask(hand, LOOK)

    def _welcome(self, hand: Hand, greeting: Greeting) -> None:
        """Take a worker in that would write the same rows. Raises: RunError."""
        if greeting.build != self._build:
            raise hand.blame(RunError(_describe_builds(greeting.build, self._build)))
        if greeting.spaces != self._spaces:
            raise hand.blame(
                RunError(
                    "the encoders, or how they are used, are others there: expected the embedding spaces "
                    f"{', '.join(self._spaces)}, got {', '.join(greeting.spaces)}; put the same checkpoints there"
                )
            )
        hand.greeting = greeting
        self._accounts[hand] = greeting.account
        if not hand.counted:  # a replacement's threads stand for those of the worker before it
            self._workers.update(greeting.threads.by_stage())
            hand.counted = True

    def _note(self, hand: Hand, report: WorkReport, work: Pass) -> None:
        """Take a report in. Raises what the worker says must stop the run."""
        if hand.note_report(report, work):
            self._losses = 0
        self._accounts[hand] = report.account
        if report.failure is not None:
            raise hand.blame(report.failure)

    def _feed(self, hand: Hand) -> None:
        """Give a worker what it has room for; where nothing is left, let it end its pass."""
        fair = self._queue.fair(len(self._open()))
        jobs = self._queue.take(hand.room(len(self._opened.encoders), fair))
        if jobs:
            hand.note_given(jobs)
            self._cluster.ask(hand.worker, "give", jobs)
        if not len(self._queue) and not hand.ended:
            hand.ended = True
            self._cluster.ask(hand.worker, "end")

    def _pass_on(self, signal_number: int) -> None:
        """Ask all workers to stop; from then on nobody is given, or missed."""
        self._queue.clear()
        if not self._stopping:
            for hand in self._open():
                self._cluster.ask(hand.worker, "stop", signal_number)
        self._stopping = True

    def _replace(self, hand: Hand, reason: str, work: Pass | None) -> None:
        """Take back what a lost worker has not committed, and hire another for it. Raises: RunError."""
        self._cluster.dismiss(hand.worker)
        self._hands.remove(hand)
        if self._stopping:
            say(f"{self._name}: the worker on {hand.seat.place} was lost")
            return
        lost = [] if work is None else not_committed(hand.given, work.targets)
        say(f"{self._name}: the worker on {hand.seat.place} was lost; {len(lost):,} volumes go back to the queue")
        self._losses += 1
        if self._losses >= LOSSES_IN_VAIN:
            raise RunError(
                f"{self._name}: {self._losses} workers were lost one after the other, and no row was written in "
                f"between; the last one: {reason}; rows that were committed are kept. Is there enough memory there, "
                "and octprobe with the same Python?"
            )
        self._hands.append(self._hire(hand.seat, counted=hand.counted))
        if work is not None:
            for _ in range(hand.rows_left - sum(len(job.lines) for job in lost)):
                work.progress.advance(failed=False)  # committed, but not reported any more
            self._give_again(lost)

    def _give_again(self, jobs: Sequence[Job]) -> None:
        """Put jobs back, and wake those who thought that all was done."""
        self._queue.put_back(jobs)
        for idle in self._open():
            if idle.question is None:
                self._feed(idle)
                if idle.is_at_work:
                    self._ask(idle, LOOK)

    def _require_somebody(self, since: float) -> None:
        """Raises RunError when no worker has been open for too long."""
        if not self._open() and time.monotonic() - since > PATIENCE_S:
            raise RunError(
                f"{self._name}: no worker could be opened for {PATIENCE_S:.0f} s; expected {len(self._hands)} with "
                f"{self._hands[0].seat.cores} free cores each; rows that were committed are kept"
            )


def with_whole_paths(options: ExtractOptions) -> ExtractOptions:
    """Name files from the root: a worker runs in another folder."""
    is_folder = "://" not in options.bucket and Path(options.bucket).is_dir()
    return replace(
        options,
        store=tuple(map(_whole, several(options.store))),
        checkpoint=tuple(path.absolute() for path in several(options.checkpoint)),
        encoder=tuple(map(_whole_encoder, several(options.encoder))),
        preset=options.preset and _whole_file(options.preset),
        given=tuple(replace(one, store=_whole(one.store), choice=_whole_choice(one.choice)) for one in options.given),
        bucket=_whole(options.bucket) if is_folder else options.bucket,
        cache_dir=options.cache_dir and options.cache_dir.absolute(),
    )


def _whole_choice(choice: EncoderChoice) -> EncoderChoice:
    return replace(
        choice,
        checkpoint=choice.checkpoint and choice.checkpoint.absolute(),
        encoder=choice.encoder and _whole_encoder(choice.encoder),
    )


def _whole_encoder(name: str) -> str:
    """Name the file of an encoder of one's own, or of an ONNX one, from the root; a family's name stays."""
    form, _, file = name.partition(":")
    return f"{ONNX}{_whole(file)}" if f"{form}:" == ONNX else _whole_file(name)


def _whole_file(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _whole(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


def not_committed(jobs: Sequence[Job], targets: Sequence[Target]) -> list[Job]:
    """Ask the stores what is lacking of the jobs that somebody was given."""
    keys = [job.ref.key for job in jobs]
    missing = [{line.ref.key for line in target.writer.missing_rows(keys)} for target in targets]
    again = [
        Job(job.ref, {number: line for number, line in job.lines.items() if job.ref.key in missing[number]})
        for job in jobs
    ]
    return [job for job in again if job.lines]


def _describe_builds(there: Build, here: Build) -> str:
    return (
        f"octprobe {there.version} (commit {there.commit or 'none'}) is installed there, "
        f"and {here.version} (commit {here.commit or 'none'}) where the command was typed; install the same"
    )
