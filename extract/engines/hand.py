"""A worker of a cluster as the driver sees it: what it was given, and what it has said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from embeddings_store.errors import OctProbeError
from extract.bucket.source import TransferCounts
from extract.engines.cluster import Seat
from extract.engines.hired_worker import Greeting, WorkReport
from extract.engines.work import Pass
from extract.targets import Job

Number = TypeVar("Number", int, float)

PORTIONS = 2  # that a worker may hold: one in work, one to go on with


@dataclass(eq=False)
class Hand:
    """One worker. question: what it has yet to answer, None when it was asked nothing; counted: its threads were.

    passes: how many it was given; ended: the one in work, if any, gets nothing more. report: its last one.
    """

    seat: Seat
    worker: Any
    question: Any
    counted: bool = False
    greeting: Greeting | None = None
    report: WorkReport | None = None
    given: list[Job] = field(default_factory=list)
    rows_given: int = 0
    passes: int = 0
    ended: bool = True

    @property
    def is_at_work(self) -> bool:
        """Say whether something that it was given may not be done yet."""
        return self.passes > (self.report.passes if self.report else 0)

    @property
    def rows_left(self) -> int:
        """Count the rows that it was given and has not reported."""
        return self.rows_given - (self.report.done if self.report else 0)

    def room(self, targets: int, fair: int) -> int:
        """Give how many volumes it may be given: none where it is ending a pass.

        fair: what it may hold, as there are others; but what keeps its threads at work, and fills any batch that
        waits for more, it gets anyway.
        """
        if self.greeting is None or (self.is_at_work and self.ended):
            return 0
        threads, batches = self.greeting.threads, sum(self.greeting.account.batch_sizes)
        enough = batches * threads.encode + threads.decode
        most = PORTIONS * max(threads.volumes_in_flight, batches)
        return max(enough, min(most, fair)) - self.rows_left // targets

    def note_given(self, jobs: Sequence[Job]) -> None:
        """Note what it was given; what comes after the end of a pass begins another."""
        self.passes += not self.is_at_work
        self.ended = False
        self.given += jobs
        self.rows_given += sum(len(job.lines) for job in jobs)

    def note_report(self, report: WorkReport, work: Pass) -> int:
        """Add what is new in a report to the account of the run; give the number of new rows."""
        done, errors = report.done, report.errors
        seconds, transfer = dict(report.seconds), dict(report.transfer)
        if self.report is not None:
            done, errors = done - self.report.done, errors - self.report.errors
            seconds = _difference(seconds, self.report.seconds)
            transfer = _difference(transfer, self.report.transfer)
        for number in range(done):
            work.progress.advance(failed=number < errors)
        work.clock.add(seconds)
        _add_transfer(work.counts, transfer)
        self.report = report
        return done

    def describe_threads(self) -> str:
        """Say what it works with, once it is open."""
        if self.greeting is None:
            return "not open yet"
        account = self.greeting.account
        return f"{account.device}, {self.greeting.threads.describe(account.batch_sizes)}"

    def blame(self, error: OctProbeError) -> OctProbeError:
        """Name the place in an error that came from it."""
        return type(error)(f"{self.seat.place}: {error}")


def _add_transfer(counts: TransferCounts, new: Mapping[str, int]) -> None:
    counts.add(
        list_requests=new["list_requests"],
        get_requests=new["get_requests"],
        retries=new["retries"],
        received_bytes=new["bytes"],
        slow_lines=new["slow_lines"],
    )
    counts.add_partial(
        volumes=new["partial_volumes"], saved_bytes=new["saved_bytes"], extra_requests=new["extra_requests"]
    )


def _difference(now: dict[str, Number], before: Mapping[str, Number]) -> dict[str, Number]:
    return {name: number - before[name] for name, number in now.items()}
