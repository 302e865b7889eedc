"""The engine of a Ray cluster: a worker on every node, or GPU, does the whole way; here its volumes are shared out.

Rows are written by the workers themselves, and whether one exists only its commit says. So a worker that is lost costs
what it had not committed: that goes back to the queue, and to others.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embeddings_store.console import say
from embeddings_store.errors import OctProbeError, RunError
from extract.bucket.source import TransferCounts
from extract.engines.account import Account, account_together
from extract.engines.ray_cluster import LOOK, Cluster, LostWorkerError, Seat, open_ray_cluster
from extract.engines.ray_queue import JobQueue
from extract.engines.ray_worker import Assignment, Build, Greeting, Report, build_here
from extract.engines.work import Engine, Opened, Pass
from extract.options import ExtractOptions
from extract.targets import Job, Target

PATIENCE_S = 600.0
LATE_S = 30.0  # how long workers are waited for when the first of them is open; later ones join the run
PAUSE_S = 0.5
SECONDS_BETWEEN_LINES = 10.0
PORTIONS = 2  # that a worker may hold: one in work, one to go on with
LOSSES_IN_VAIN = 5  # workers lost one after the other without a row in between: it is not the nodes


@contextmanager
def open_ray(opened: Opened) -> Iterator[Engine]:
    """Give the engine that works on a Ray cluster. Raises: UsageError, DeviceError, RunError."""
    with open_ray_cluster(opened.options.ray_address, opened.options.device) as cluster:
        engine = RayEngine(cluster, opened)
        try:
            engine.open()
            yield engine
        finally:
            engine.close()


@dataclass
class Hand:
    """A worker as the driver sees it. question: what it has yet to answer; report: its last one; given: since begun.

    passes: how many it was given; ended: the one in work gets nothing more.
    """

    seat: Seat
    worker: Any
    question: Any
    asked: str
    greeting: Greeting | None = None
    report: Report | None = None
    given: list[Job] = field(default_factory=list)
    passes: int = 0
    ended: bool = True

    @property
    def is_at_work(self) -> bool:
        """Say whether something that it was given may not be done yet."""
        return self.passes > (self.report.passes if self.report else 0)

    @property
    def rows_left(self) -> int:
        """Count the rows that it was given and has not reported."""
        return sum(len(job.lines) for job in self.given) - (self.report.done if self.report else 0)


class RayEngine:
    """Hires workers, hears what they say, and gives them volumes."""

    def __init__(self, cluster: Cluster, opened: Opened) -> None:
        self._cluster, self._opened = cluster, opened
        self._spaces = tuple(one.space.id for one in opened.encoders)
        self._build = build_here()
        self._options = with_whole_paths(opened.options)
        self._workers: Counter[str] = Counter()
        self._accounts: dict[int, Account] = {}
        self._losses = 0
        self._hands = [self._hire(seat) for seat in cluster.seats]

    @property
    def workers(self) -> Mapping[str, int]:
        """Give the threads of all workers that are open; workers that come later are added."""
        return self._workers
