"""What the Ray engine relies on in a cluster, whatever it is made of."""

from pathlib import Path
from typing import Any

import pytest
from small_bucket import options

from extract.engines.cluster import LOOK, Cluster, LostWorkerError
from extract.engines.hired_worker import Assignment, Greeting, WorkReport


class ClusterContract:
    """Inherit, and give ``hiring``: a cluster with at least one seat; and ``bucket``."""

    @pytest.fixture
    def worker(self, hiring: Cluster, bucket: Path, tmp_path: Path) -> Any:
        seat = hiring.seats[0]
        given = options(bucket, tmp_path / "store", engine="ray")
        return hiring.hire(seat, Assignment(given, seat.cores, seat.neighbours))

    def test_a_worker_opens_and_reports(self, hiring: Cluster, worker: Any) -> None:
        greeting = hear(hiring, hiring.ask(worker, "open"))
        assert isinstance(greeting, Greeting)
        assert greeting.threads.decode == hiring.seats[0].cores
        report = hear(hiring, hiring.ask(worker, LOOK))
        assert isinstance(report, WorkReport)
        assert (report.done, report.passes, report.failure) == (0, 0, None)

    def test_waiting_has_an_end(self, hiring: Cluster, worker: Any) -> None:
        assert hiring.answered([hiring.ask(worker, "open")], 0.0) == []

    def test_a_worker_that_was_dismissed_is_lost(self, hiring: Cluster, worker: Any) -> None:
        hear(hiring, hiring.ask(worker, "open"))
        hiring.dismiss(worker)
        with pytest.raises(LostWorkerError):
            hear(hiring, hiring.ask(worker, LOOK))


def hear(cluster: Cluster, question: Any) -> Any:
    assert cluster.answered([question], 60.0) == [question]
    return cluster.answer(question)
