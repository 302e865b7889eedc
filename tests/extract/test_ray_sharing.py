"""How the Ray engine shares volumes out, on a cluster of threads: whoever is lost, each volume becomes one row."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_contract import ClusterContract
from small_bucket import assert_same_rows, errors, fill_bucket, key_of, options, rows
from thread_cluster import Hired, ThreadCluster, lose_after_rows

from embeddings_store.command_line import parse_words
from embeddings_store.errors import RunError, StoreError, UsageError
from embeddings_store.index import IndexRow
from embeddings_store.schema import VolumeRef
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, ObjectInfo, Wanted
from extract.encode import BatchEncoder
from extract.engines.cluster import Seat
from extract.engines.hand import Hand
from extract.engines.hired_worker import Assignment, Build, Greeting, WorkReport
from extract.engines.job_queue import JobQueue
from extract.engines.ray import find_seats, reason_in
from extract.engines.select import ENGINES
from extract.engines.sharing import engine_on
from extract.errors import BucketError, CheckpointError, DeviceError
from extract.layouts.ai_readi import parse_object
from extract.options import ExtractOptions
from extract.pipeline import extract
from extract.targets import Job

VOLUMES = 12
Use = Callable[[ThreadCluster], ThreadCluster]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return fill_bucket(tmp_path / "bucket", VOLUMES)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put a cluster behind --engine ray; workers report often."""
    monkeypatch.setattr("extract.engines.hired_worker.LOOK_S", 0.01)

    def put(cluster: ThreadCluster) -> ThreadCluster:
        monkeypatch.setitem(ENGINES, "ray", lambda opened: engine_on(cluster, opened))
        return cluster

    return put


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every forward take a while, so that something can happen meanwhile."""
    submit = BatchEncoder.submit

    def slowly(self: BatchEncoder, batch: Any) -> Any:
        time.sleep(0.05)
        return submit(self, batch)

    monkeypatch.setattr(BatchEncoder, "submit", slowly)


def run(bucket: Path, *stores: Path, **changed: Any) -> dict[str, Any]:
    return extract(options(bucket, *stores, engine="ray", **changed))


def given(worker: Hired) -> int:
    return sum(volumes for _, volumes in worker.calls)


@pytest.mark.parametrize("batch_size", ["1", "5"])
def test_every_volume_becomes_one_row_and_the_summary_is_that_of_one_machine(
    bucket: Path, tmp_path: Path, use: Use, batch_size: str
) -> None:
    """Batches of five out of twelve volumes: what waits in a batch is not waited for."""
    (bucket / key_of(3)).write_bytes(b"no DICOM")
    cluster = use(ThreadCluster(["a", "b"]))
    summary = run(bucket, tmp_path / "ray", batch_size=batch_size)
    local = extract(options(bucket, tmp_path / "local", batch_size="1"))
    assert summary.keys() == local.keys()
    for name in ("committed", "errors", "selected", "bytes", "get_requests", "space", "device", "precision"):
        assert summary[name] == local[name], name
    assert summary["workers"] == {"fetch": 64, "decode": 2, "encode": 2, "write": 4}
    assert summary["seconds"]["encode"] > 0
    assert errors(tmp_path / "ray") == {key_of(3): ("decode", "NotDicom")}
    if batch_size == "1":
        assert_same_rows(tmp_path / "ray", tmp_path / "local")
    assert [given(worker) for worker in cluster.hired if given(worker)]


def test_both_workers_get_their_part(bucket: Path, tmp_path: Path, use: Use, slow: None) -> None:
    cluster = use(ThreadCluster(["a", "b"]))
    assert run(bucket, tmp_path / "store")["committed"] == VOLUMES
    assert sum(given(worker) for worker in cluster.hired) == VOLUMES
    assert min(given(worker) for worker in cluster.hired) >= VOLUMES // 4


def test_several_stores_are_filled_in_one_pass(bucket: Path, tmp_path: Path, use: Use) -> None:
    use(ThreadCluster(["a", "b"]))
    stores, alone = (tmp_path / "a", tmp_path / "b"), (tmp_path / "local-a", tmp_path / "local-b")
    extract(options(bucket, stores[1], encoder="random:tiny,seed=1", limit=4))
    summary = run(bucket, *stores)
    assert [one["committed"] for one in summary["stores"]] == [VOLUMES] * 2
    extract(options(bucket, *alone))
    for mine, local in zip(stores, alone, strict=True):
        assert_same_rows(mine, local)


def test_what_a_lost_worker_has_not_committed_goes_to_others(
    bucket: Path, tmp_path: Path, use: Use, slow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = use(ThreadCluster(["a", "b"], hear=lose_after_rows(1)))
    summary = run(bucket, tmp_path / "store")
    assert (summary["committed"], summary["errors"]) == (VOLUMES, {})
    assert [worker.seat.node for worker in cluster.hired] == ["a", "b", "a"], "another is hired in its place"
    said = capsys.readouterr().err
    back = int(said.split("the worker on node a was lost; ")[1].split()[0])
    assert 0 < back < given(cluster.hired[0]), "committed rows are not done again"
    assert sum(given(worker) for worker in cluster.hired) == VOLUMES + back
    assert f"{VOLUMES} of {VOLUMES} volumes, 0 errors" in said
    extract(options(bucket, tmp_path / "local"))
    assert_same_rows(tmp_path / "store", tmp_path / "local")


def test_who_is_done_takes_over_from_one_that_is_lost_at_the_end(
    bucket: Path, tmp_path: Path, use: Use, slow: None
) -> None:
    """The one that is done has ended its pass; nobody is hired in time, so it begins another."""

    def hear(worker: Hired, answer: Any) -> Any:
        if isinstance(answer, WorkReport) and worker.number == 0 and cluster.hired[1].inner._passes:
            worker.lost = True
        if isinstance(answer, Greeting) and worker.number == 2:
            worker.lost = True
        return answer

    cluster = use(ThreadCluster(["a", "b"], hear=hear))
    encode = cluster.ask

    def ask(worker: Hired, method: str, *rest: Any) -> Any:
        if method == "give" and worker.number == 0:
            worker.threads[False].submit(time.sleep, 1.0)
        return encode(worker, method, *rest)

    cluster.ask = ask  # type: ignore[method-assign] # the first worker is slow to begin
    assert run(bucket, tmp_path / "store")["committed"] == VOLUMES
    assert [method for method, _ in cluster.hired[1].calls].count("end") == 2


def test_workers_lost_one_after_the_other_stop_the_run(bucket: Path, tmp_path: Path, use: Use) -> None:
    def hear(worker: Hired, answer: Any) -> Any:
        worker.lost = isinstance(answer, Greeting)
        return answer

    use(ThreadCluster(["a"], hear=hear))
    with pytest.raises(RunError, match=r"5 workers were lost .* the actor died"):
        run(bucket, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_concerns_the_run_stops_it_and_names_the_node(
    bucket: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = FolderSource.fetch

    def fail(self: FolderSource, wanted: Wanted) -> Fetched:
        if wanted.key == key_of(5):
            raise BucketError("no such bucket")
        return fetch(self, wanted)

    monkeypatch.setattr(FolderSource, "fetch", fail)
    use(ThreadCluster(["a"]))
    with pytest.raises(BucketError, match=r"^node a: no such bucket$"):
        run(bucket, tmp_path / "store")
    assert errors(tmp_path / "store") == {}


def test_an_unexpected_failure_is_told_without_its_words(
    bucket: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("DOE^JANE")

    monkeypatch.setattr("extract.engines.local.make_batches", fail)
    use(ThreadCluster(["a"]))
    with pytest.raises(RunError, match=r"^node a: unexpected ZeroDivisionError at test_ray_sharing.py:\d+; please"):
        run(bucket, tmp_path / "store")


def test_a_signal_lets_workers_finish_what_they_have_begun(bucket: Path, tmp_path: Path, use: Use, slow: None) -> None:
    def hear(worker: Hired, answer: Any) -> Any:
        if isinstance(answer, WorkReport) and answer.done and not told:
            told.append(worker.number)
            signal.raise_signal(signal.SIGTERM)
        return answer

    told: list[int] = []
    use(ThreadCluster(["a", "b"], hear=hear))
    summary = run(bucket, tmp_path / "store")
    assert summary["stopped_by"] == "SIGTERM"
    assert 0 < summary["committed"] == len(rows(tmp_path / "store")) < VOLUMES
    again = run(bucket, tmp_path / "store")
    assert (again["committed"], again["already_done"]) == (VOLUMES, summary["committed"])


def change_checkpoint(number: int, assignment: Assignment) -> Assignment:
    """Let the second node lack the file."""
    other = replace(assignment.options, checkpoint=Path("/nowhere/best.pt"), encoder=())
    return replace(assignment, options=other) if number else assignment


def change_weights(number: int, assignment: Assignment) -> Assignment:
    other = replace(assignment.options, encoder="random:tiny,seed=7")
    return replace(assignment, options=other) if number else assignment


def change_build(worker: Hired, answer: Any) -> Any:
    other = Build("0.0.1", "abc")
    return replace(answer, build=other) if worker.number and isinstance(answer, Greeting) else answer


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        ({"change": change_checkpoint}, CheckpointError, r"^node b: /nowhere/best.pt"),
        ({"change": change_weights}, RunError, r"^node b: the encoders, .* put the same checkpoints there"),
        ({"hear": change_build}, RunError, r"^node b: octprobe 0.0.1 \(commit abc\) is installed there, and"),
    ],
)
def test_a_node_that_differs_is_refused_before_a_store_is_touched(
    bucket: Path, tmp_path: Path, use: Use, told: dict[str, Any], kind: type[Exception], message: str
) -> None:
    use(ThreadCluster(["a", "b"], **told))
    with pytest.raises(kind, match=message):
        run(bucket, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_folder_that_is_another_one_there_is_refused(bucket: Path, tmp_path: Path, use: Use) -> None:
    """As where /data is a disk of each machine: a folder of that name may, or may not, be there."""

    def elsewhere(number: int, assignment: Assignment) -> Assignment:
        return replace(assignment, options=replace(assignment.options, store=str(tmp_path / "other")))

    use(ThreadCluster(["a"], change=elsewhere))
    for make in (lambda: None, (tmp_path / "other").mkdir):
        make()
        with pytest.raises(StoreError, match=r"^node a: .*other is another folder there .* s3://bucket/prefix"):
            run(bucket, tmp_path / "store")
    assert list((tmp_path / "other").iterdir()) == []


def test_relative_paths_are_made_whole_and_machines_are_told_of_folders(
    bucket: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = use(ThreadCluster(["a", "b"]))
    assert run(Path("bucket"), Path("store"), cache_dir=Path("cache"))["committed"] == VOLUMES
    sent = cluster.hired[0].inner.assignment.options
    assert (sent.bucket, sent.outputs[0].store, sent.cache_dir) == (
        str(bucket), str(tmp_path / "store"), tmp_path / "cache",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "ray: workers: 2, one a node; machines: 2" in said
    assert "2 x cpu, workers: 32 fetch, 1 decode, 1 encode" in said
    assert "store: every machine must mount this folder" in said


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": f"ip-{name}", "Alive": alive, "Resources": resources}


def test_one_worker_a_gpu_where_there_are_any_else_one_a_node() -> None:
    nodes = [node("a", CPU=16.0, GPU=4.0), node("b", CPU=8.0), node("c", CPU=8.0, alive=False), node("d")]
    of_gpu = [Seat("a", "ip-a", 4, "cuda", 4)] * 4
    assert find_seats(nodes, "auto") == find_seats(nodes, "cuda") == of_gpu
    assert find_seats(nodes, "cpu") == [Seat("a", "ip-a", 16, "cpu", 1), Seat("b", "ip-b", 8, "cpu", 1)]
    assert find_seats(nodes[1:], "auto") == [Seat("b", "ip-b", 8, "cpu", 1)]
    assert {seat.device for seat in of_gpu} == {"cuda"}
    with pytest.raises(DeviceError, match="none of the cluster's 2 nodes offers a GPU"):
        find_seats(nodes[1:], "cuda")


def jobs(count: int) -> list[Job]:
    refs = [parse_object(ObjectInfo(key_of(number), 1, "")) for number in range(count)]
    return [Job(ref, {0: IndexRow(row, ref)}) for row, ref in enumerate(refs) if isinstance(ref, VolumeRef)]


def test_portions_become_smaller_towards_the_end() -> None:
    queue = JobQueue(jobs(100))
    assert [queue.fair(workers) for workers in (1, 2, 3)] == [50, 25, 17]
    first = queue.take(99)
    assert (len(queue), queue.fair(2), queue.take(-1)) == (1, 1, [])
    queue.put_back(first[:2])
    assert [job.ref.key for job in queue.take(5)] == [key_of(0), key_of(1), key_of(99)]


def test_a_worker_whose_batch_is_not_full_always_gets_more(bucket: Path, tmp_path: Path, use: Use) -> None:
    """Else it and the driver would wait for each other."""
    cluster = use(ThreadCluster(["a"]))
    run(bucket, tmp_path / "store", limit=1)
    greeting = cluster.hired[0].inner.open()
    assert isinstance(greeting, Greeting)
    batches = replace(greeting, account=replace(greeting.account, batch_sizes=(16, 8)))
    hand = Hand(cluster.seats[0], None, None, greeting=batches)
    hand.note_given(jobs(22))
    assert hand.room(2, 0) > 0
    assert hand.room(2, 10_000) == 2 * greeting.threads.volumes_in_flight - 11
    hand.ended = True
    assert hand.room(2, 10_000) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ray_address": "auto"}, "--ray-address: only --engine ray"),
        ({"engine": "ray", "rank": 0, "ranks": 2}, "leave out --rank and --ranks"),
        ({"engine": "ray", "device": "xla"}, "on a TPU pod run the same command on every host"),
    ],
)
def test_options_that_contradict_the_engine_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_words(ExtractOptions, bucket="b", store="s", encoder="random:tiny", **changed)


def test_a_missing_ray_is_one_message_that_names_the_extra(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--engine ray, instead of --engine local: ray is not installed"):
        run(bucket, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:123456", "nonsense"])
def test_an_address_where_nobody_answers_is_refused_at_once(bucket: Path, tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="needs octprobe[ray]")
    with pytest.raises(UsageError, match=f"expected the address of a running Ray cluster, got '{address}': .*begins"):
        run(bucket, tmp_path / "store", ray_address=address)
    assert not (tmp_path / "store").exists()


def test_of_what_ray_says_the_reason_is_kept() -> None:
    missing = "The actor died.\n\tpid: 7\nRuntimeError: failed to import\nModuleNotFoundError: No module\n\nmore"
    assert reason_in(missing) == "ModuleNotFoundError: No module"
    assert reason_in("The actor died.\n\tpid: 7") == "The actor died."
    assert reason_in("") == "no reason given"


def test_workers_are_dismissed_when_the_engine_is_closed(bucket: Path, tmp_path: Path, use: Use) -> None:
    cluster = use(ThreadCluster(["a", "b"]))
    run(bucket, tmp_path / "store")
    assert all(worker.lost for worker in cluster.hired)


class TestThreadCluster(ClusterContract):
    @pytest.fixture
    def hiring(self) -> ThreadCluster:
        return ThreadCluster(["a"])
