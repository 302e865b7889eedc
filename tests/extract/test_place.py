"""Where a process stands among others, and which device is its own: with a fake torch.cuda and fake TPU slices."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_pod import HOST, NO_METADATA, PODS, Pod, forget, install, install_pod
from small_bucket import fill_bucket, options, rows
from thread_cluster import ThreadCluster

from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.ranks import Rank
from embeddings_store.writer import StoreWriter
from extract.device.here import take_device
from extract.device.select import open_device, resolve
from extract.device.tpu import TpuHost, accelerator_type, chips_on_bus, find_host, one_chip
from extract.device_options import parse_chips, parse_gpus
from extract.engines import devices
from extract.engines.cluster import Seat
from extract.engines.hired_worker import Assignment
from extract.engines.select import choose_engine
from extract.errors import DeviceError
from extract.pipeline import extract
from extract.place import find_place
from extract.summary import describe_summary

GPUS = 4
VOLUMES = 24
TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2",
}  # fmt: skip
ONE_MACHINE = TORCHRUN | {"RANK": "1", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"}
SRUN = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "2"}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "6", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}  # fmt: skip
ALL = ["0", "1", "2", "3"]

without_torch_xla = pytest.mark.skipif(find_spec("torch_xla") is not None, reason="torch_xla is installed here")


@without_torch_xla
@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (Pod("v4-32", 1, 4), "a slice v4-32 has 16 chips, this machine has 4, and the TPU's metadata names no other"),
        (Pod("v5litepod-16", 1, 4), "a slice v5litepod-16 has 16 chips, this machine has 4"),
        (Pod("v4-8", 1, 4), ""),
        (Pod("v5litepod-8", 1, 8), ""),
        (Pod("v4-32", 4, 4), ""),
        (Pod("", 1, 4), ""),
    ],
)
def test_a_slice_whose_other_machines_nobody_names_says_so(
    become: Callable[[Pod], None], pod: Pod, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    become(pod)
    find_place(asked(device="xla"), {"TPU_VISIBLE_CHIPS": "0"})
    said = capsys.readouterr().err
    assert words in said
    assert bool(words) == bool(said)


class Written:
    """Counts how often each row was written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        write = StoreWriter.write_row

        def count(writer: StoreWriter, row: int, *given: Any) -> None:
            self.rows.append(row)
            write(writer, row, *given)

        patch.setattr(StoreWriter, "write_row", count)


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A torch.cuda with four GPUs; gives the numbers that became the current one."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: GPUS)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: None)
    return chosen


def asked(**changed: Any) -> Any:
    return options(Path("bucket"), Path("store"), **({"device": "cuda"} | changed))


@pytest.mark.parametrize(
    ("surroundings", "rank", "turn", "used"),
    [
        ({}, (0, 1), 0, ALL),
        (TORCHRUN, (5, 8), 1, []),
        (ONE_MACHINE, (1, 4), 1, []),
        (SRUN, (6, 8), 2, []),
        # One task a node: the node's GPUs are all its own.
        (SRUN | {"SLURM_LOCALID": "0", "SLURM_NODEID": "6", "SLURM_STEP_TASKS_PER_NODE": "1(x8)"}, (6, 8), 0, ALL),
        (SRUN | {"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, (6, 8), 2, []),
        # srun starts a torchrun on each node: one that spans the nodes, or one that knows of its own alone.
        (SRUN | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"} | TORCHRUN, (5, 8), 1, []),
        (SRUN | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"} | ONE_MACHINE, (3, 8), 1, []),
        (MPIRUN, (6, 8), 2, []),
        (SRUN | MPIRUN | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (6, 8), 2, []),
        ({"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "3"}, (3, 4), 3, []),
        (SRUN | {"PMI_RANK": "6", "PMI_SIZE": "8"}, (6, 8), 2, []),
        # An array element is a job of its own; srun within it counts on.
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}, (2, 4), 0, ALL),
        (SRUN | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, (14, 16), 2, []),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"} | ONE_MACHINE, (5, 8), 1, []),
        ({"RANK": "3", "LOCAL_RANK": "3"}, (0, 1), 0, ALL),
    ],
)  # fmt: skip
def test_a_launcher_says_which_process_this_is_and_its_local_number_which_gpu(
    current: list[int], surroundings: Mapping[str, str], rank: tuple[int, int], turn: int, used: list[str]
) -> None:
    place = find_place(asked(), surroundings)
    assert place.rank == Rank(*rank)
    assert (place.devices.turn, list(place.devices.surroundings)) == (turn, used)


@pytest.mark.parametrize(("rank", "gpu"), [(0, 0), (3, 3), (6, 2)])
def test_ranks_that_were_typed_take_the_gpus_in_turn(current: list[int], rank: int, gpu: int) -> None:
    place = find_place(asked(rank=rank, ranks=8), {})
    assert place.devices.surroundings == {}
    take_device("cuda", place.devices.turn)
    assert current == [gpu]
    assert choose_engine(asked(rank=rank, ranks=8), place.devices)[1].name == "cuda"
    assert current == [gpu, gpu]


@pytest.mark.parametrize(
    ("typed", "visible", "used"),
    [
        ({}, None, {"0": "0", "1": "1", "2": "2", "3": "3"}),
        ({"gpus": "2"}, None, {"0": "0", "1": "1"}),
        ({"gpus": "0,3"}, None, {"0": "0", "3": "3"}),
        ({"gpus": "3,0"}, "4,5,6,7", {"3": "7", "0": "4"}),
        ({"gpus": "all"}, "GPU-a,GPU-b,GPU-c,GPU-d", {"0": "GPU-a", "1": "GPU-b", "2": "GPU-c", "3": "GPU-d"}),
        ({"gpus": "2", "rank": 1, "ranks": 2}, None, {"0": "0", "1": "1"}),
    ],
)
def test_each_process_sees_one_gpu(
    current: list[int], typed: dict[str, Any], visible: str | None, used: dict[str, str]
) -> None:
    place = find_place(asked(**typed), {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    seen = {number: found["CUDA_VISIBLE_DEVICES"] for number, found in place.devices.surroundings.items()}
    assert seen == used
    assert list(seen) == list(used)


@pytest.mark.parametrize(
    ("typed", "surroundings", "message"),
    [
        ({"gpus": "5"}, {}, "expected 5 GPUs, and this machine has 4: 0, 1, 2, 3"),
        ({"gpus": "0,7"}, {}, "expected GPU 7, and this machine has 4"),
        ({"gpus": "2"}, SRUN, "--gpus: this process is one of several, each with a GPU of its own; leave it out"),
        ({"gpus": "2", "device": "cpu"}, {}, "--gpus belongs to --device cuda, and this run computes on cpu"),
        ({"tpu_chips": "2"}, {}, "--tpu-chips belongs to --device xla, and this run computes on cuda"),
    ],
)
def test_devices_that_are_not_here_are_refused(
    current: list[int], typed: dict[str, Any], surroundings: dict[str, str], message: str
) -> None:
    with pytest.raises(OctProbeError, match=message):
        find_place(asked(**typed), surroundings)


@pytest.mark.parametrize("text", ["", "0", "-1", "0,0", "a", "1.5", "0;1", "1,"])
def test_gpus_are_counted_or_named(text: str) -> None:
    with pytest.raises(UsageError, match="--gpus: expected all, a count such as 4, or numbers such as 0,3"):
        parse_gpus(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "0,1", "a"])
def test_chips_are_counted(text: str) -> None:
    assert (parse_chips("all"), parse_chips("3")) == (None, 3)
    with pytest.raises(UsageError, match="--tpu-chips: expected all or a number from 1"):
        parse_chips(text)


@pytest.mark.parametrize(
    ("surroundings", "words"),
    [
        ({"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, r"8 tasks .*\(srun starts them\)"),
        ({"PBS_ARRAY_INDEX": "3"}, "PBS_ARRAY_INDEX=3: .* one of several"),
        (
            {"JOB_COMPLETION_INDEX": "0"},
            "JOB_COMPLETION_INDEX=0: .* this process does every volume: say --rank and --ranks",
        ),
    ],
)
def test_one_of_several_that_finds_itself_alone_says_so(
    surroundings: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_place(asked(device="cpu"), surroundings).rank == Rank(0, 1)
    assert re.search(words, capsys.readouterr().err)
    assert find_place(asked(device="cpu", rank=1, ranks=2), surroundings).rank == Rank(1, 2)
    find_place(asked(device="cpu"), {"SGE_TASK_ID": "undefined", "SLURM_NTASKS": "1"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "launcher", [("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")]
)
def test_processes_of_a_launcher_do_the_work_once(
    launcher: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, written = fill_bucket(tmp_path / "bucket", 7), Written(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    summaries, said = [], []
    for rank in range(2):
        for name, value in zip(launcher, (rank, 2, rank), strict=True):
            monkeypatch.setenv(name, str(value))
        summaries.append(extract(options(bucket, tmp_path / "store", tokens="none")))
        said.append(describe_summary(summaries[-1]))
    assert sorted(written.rows) == list(range(7))
    assert [one["get_requests"] for one in summaries] == [4, 3]
    assert [(one["rank"], one["ranks"], one["left"], one["twins"]) for one in summaries] == [(0, 2, 3, 0), (1, 2, 0, 0)]
    assert (
        "3 volumes have no row yet: they belong to the other ranks; where those are not at work, start each of the 2"
        in said[0]
    )
    assert "have no row yet" not in said[1]


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Pod], None]]:
    yield lambda pod: install_pod(tmp_path, monkeypatch, pod)
    forget()


@without_torch_xla
@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod.kind)
def test_every_host_of_a_slice_finds_its_number_and_its_chips(become: Callable[[Pod], None], pod: Pod) -> None:
    become(pod)
    assert resolve("auto") == "xla"
    places = []
    for HOST.number in range(pod.hosts):
        places.append(find_place(asked(device="auto"), {}))
    assert [place.rank for place in places] == [Rank(number, pod.hosts) for number in range(pod.hosts)]
    for place in places:
        found = place.devices.surroundings
        assert [one["TPU_VISIBLE_CHIPS"] for one in found.values()] == list(map(str, range(pod.chips)))
        assert len({one["TPU_PROCESS_PORT"] for one in found.values()}) == pod.chips
        assert {one["TPU_PROCESS_BOUNDS"] for one in found.values()} == {"1,1,1"}, "no chip waits for another"
    assert accelerator_type({}) == pod.kind


@without_torch_xla
@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod.kind)
def test_a_slice_writes_each_row_once(
    become: Callable[[Pod], None], pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts in threads, chips in threads of these; a host that is started again finds nothing to do."""
    become(pod)
    bucket = fill_bucket(tmp_path / "bucket", VOLUMES)
    taken: list[str] = []

    def cluster(name: str, seats: list[Seat], surroundings: Mapping[str, Mapping[str, str]]) -> ThreadCluster:
        taken.extend(surroundings[seat.number or ""]["TPU_VISIBLE_CHIPS"] for seat in seats)
        found = ThreadCluster([str(seat.number) for seat in seats], change=on_the_cpu)
        assert [seat.device for seat in seats] == ["xla"] * pod.chips
        return found

    def on_the_cpu(_: int, assignment: Assignment) -> Assignment:
        return replace(assignment, options=replace(assignment.options, device="cpu"))

    monkeypatch.setattr(devices, "ProcessCluster", cluster)
    monkeypatch.setattr("extract.engines.hired_worker.LOOK_S", 0.01)
    written = Written(monkeypatch)

    def play(host: int) -> dict[str, Any]:
        HOST.number = host
        return extract(options(bucket, tmp_path / "store", device="xla", batch_size="1"))

    with ThreadPoolExecutor(pod.hosts) as hosts:
        summaries = list(hosts.map(play, range(pod.hosts)))
    assert sorted(written.rows) == list(range(VOLUMES))
    assert sum(one["get_requests"] for one in summaries) == VOLUMES
    assert [(one["rank"], one["ranks"]) for one in summaries] == [(host, pod.hosts) for host in range(pod.hosts)]
    assert taken == list(map(str, range(pod.chips))) * pod.hosts
    assert play(pod.hosts - 1)["already_done"] == VOLUMES
    assert len(written.rows) == len(rows(tmp_path / "store")) == VOLUMES


@without_torch_xla
def test_a_host_without_metadata_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, NO_METADATA)
    try:
        with pytest.raises(
            DeviceError, match=r"metadata does not say .* say --rank and --ranks: 0 and 1 for a machine"
        ):
            find_place(asked(device="xla"), {})
        typed = find_place(asked(device="xla", rank=1, ranks=3, tpu_chips="4"), {})
        assert (typed.rank, list(typed.devices.surroundings)) == (Rank(1, 3), ALL)
        assert accelerator_type({}) == ""
        # Kubernetes tells, and has no such metadata.
        told = {"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "a,b,c", "TPU_VISIBLE_CHIPS": "1,2"}
        assert find_host(told) == TpuHost(2, 3, ("1", "2"), "a")
        monkeypatch.setenv("PJRT_DEVICE", "CPU")
        assert (resolve("auto"), find_host({})) == ("cpu", None)
    finally:
        forget()


@without_torch_xla
def test_chips_that_nothing_here_can_use_are_no_reason_to_take_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (vendor, device) in enumerate([("0x1ae0", "0x0063"), ("0x1ae0", "0x0042"), ("0x10de", "0x0063")]):
        (tmp_path / "bus" / str(number)).mkdir(parents=True)
        for name, text in (("vendor", vendor), ("device", device)):
            (tmp_path / "bus" / str(number) / name).write_text(f"{text}\n")
    assert chips_on_bus(tmp_path / "bus") == 1, "a network card of the same vendor is no chip"
    monkeypatch.setattr("extract.device.tpu.chips_on_bus", lambda: 4)
    with pytest.raises(DeviceError, match=r"torch_xla for the 4 TPU chips of this machine, .*octprobe\[tpu\]"):
        open_device("auto")
    assert open_device("cpu").name == "cpu"


@without_torch_xla
def test_a_process_takes_its_chip_and_keeps_it(become: Callable[[Pod], None], monkeypatch: pytest.MonkeyPatch) -> None:
    become(PODS[1])
    for name in one_chip("0"):
        monkeypatch.delenv(name, raising=False)
    take_device("xla", 6)
    took = os.environ["TPU_VISIBLE_CHIPS"]
    take_device("xla", 1)
    kept = os.environ["TPU_VISIBLE_CHIPS"]
    for name in one_chip("0"):
        del os.environ[name]
    assert (took, kept) == ("2", "2")


def test_a_chip_is_taken_alone() -> None:
    one, other = one_chip("0"), one_chip("3", 3)
    assert (other["TPU_VISIBLE_CHIPS"], other["TPU_PROCESS_ADDRESSES"]) == ("3", "localhost:8479")
    assert one["TPU_PROCESS_PORT"] != other["TPU_PROCESS_PORT"]
