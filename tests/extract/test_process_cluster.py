"""One process a device, in processes of their own: the rows of one process, and one that dies costs none."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_contract import ClusterContract
from small_bucket import assert_same_rows, fill_bucket, options

from extract.device.select import open_device
from extract.engines.cluster import LostWorkerError, Seat
from extract.engines.devices import share_of
from extract.engines.hired_worker import Assignment
from extract.engines.process_cluster import ProcessCluster, WorkerProcess
from extract.engines.sharing import engine_on
from extract.pipeline import extract

VOLUMES = 10
SEATS = [Seat("", "", 1, "cpu", 2, number) for number in ("0", "3")]
SURROUNDINGS = {"0": {"CUDA_VISIBLE_DEVICES": "0"}, "3": {"CUDA_VISIBLE_DEVICES": "3"}}


class Watched(ProcessCluster):
    """Remembers the processes, and kills the first one as soon as it has reported rows."""

    def __init__(self, *, kill: bool) -> None:
        super().__init__("GPUs", SEATS, SURROUNDINGS)
        self.hired: list[WorkerProcess] = []
        self.kill = kill

    def hire(self, seat: Seat, assignment: Any) -> WorkerProcess:
        self.hired.append(super().hire(seat, assignment))
        return self.hired[-1]

    def answer(self, question: Any) -> Any:
        found = super().answer(question)
        if self.kill and getattr(found, "done", 0) and question.worker is self.hired[0]:
            self.kill = False
            os.kill(question.worker.process.pid, signal.SIGKILL)
        return found


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_bucket(tmp_path_factory.mktemp("files") / "bucket", VOLUMES)


class TestProcessCluster(ClusterContract):
    @pytest.fixture
    def hiring(self) -> Iterator[ProcessCluster]:
        cluster = Watched(kill=False)
        yield cluster
        for worker in cluster.hired:
            if not worker.pipe.closed:
                cluster.dismiss(worker)


def test_a_process_that_is_killed_costs_nothing_that_it_had_committed(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = Watched(kill=True)
    monkeypatch.setattr(
        "extract.pipeline.choose_engine",
        lambda *_: (lambda opened: engine_on(cluster, opened), open_device("cpu")),
    )
    summary = extract(options(bucket, tmp_path / "several", batch_size="1"))
    monkeypatch.undo()
    said = capfd.readouterr()
    assert (summary["committed"], summary["errors"], summary["twins"]) == (VOLUMES, {}, 0)
    assert len(cluster.hired) == 3, "another takes its seat"
    assert all(worker.process.poll() is not None for worker in cluster.hired), "none outlives the run"
    assert "GPUs: workers: 2" in said.err
    assert "the worker on node 0 was lost; " in said.err
    assert said.out == ""
    extract(options(bucket, tmp_path / "alone", batch_size="1"))
    assert_same_rows(tmp_path / "several", tmp_path / "alone")


def test_a_process_that_cannot_begin_is_named_with_its_end(
    monkeypatch: pytest.MonkeyPatch, bucket: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("extract.engines.process_cluster.COMMAND", ("/bin/sh", "-c", "exit 7", "sh"))
    cluster = Watched(kill=False)
    worker = cluster.hire(SEATS[0], Assignment(options(bucket, tmp_path / "store"), 1, 2))
    question = cluster.ask(worker, "open")
    assert cluster.answered([question], 10.0) == [question]
    with pytest.raises(LostWorkerError, match="its process ended with exit status 7"):
        cluster.answer(question)
    assert cluster.answered([cluster.ask(worker, "look")], 0.0), "nobody waits for one that is gone"
    cluster.dismiss(worker)


def test_what_is_said_of_the_machine_is_divided_among_its_processes(bucket: Path, tmp_path: Path) -> None:
    whole = options(bucket, tmp_path / "store", streams=32, decoders="6")
    share = share_of(whole, 4)
    assert (share.streams, share.decoders, share.writers) == (8, 1, None)
    assert share_of(replace(whole, streams=2), 4).streams == 1
    assert replace(share, streams=32, decoders=6) == whole


def test_a_seat_is_called_by_what_there_is_one_process_for() -> None:
    assert [Seat("", "", 1, device, 2, "3").place for device in ("cuda", "xla")] == ["GPU 3", "chip 3"]
    assert Seat("a", "10.0.0.1", 1, "cuda", 2).place == "node 10.0.0.1"
