"""The seam to other processes of the same run: a launcher starts them, and each has its share of every batch."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from embeddings_store.errors import RunError, UsageError
from embeddings_store.ranks import Rank
from extract.device.here import take_device
from extract.device.select import resolve
from extract.device.tpu import TpuHost, find_host
from extract.rank import Launched, Surroundings, find_launched, find_turn

Part = TypeVar("Part")

FIRST_PORT, PORTS = 29_500, 10_000
"""Where processes meet unless MASTER_PORT says so; jobs of one machine at ports of their own."""


@runtime_checkable
class Processes(Protocol):
    """All processes of a run; they go through the same steps in the same order."""

    rank: int
    size: int

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give the part of a list that belongs to this process."""

    def gather(self, part: Any) -> list[Any]:
        """Give what every process brought, in the order of their ranks, to each of them."""

    def compare(self, part: Any) -> list[Any]:
        """Give the same of all, those included that do not share the work but repeat it; all wait for it."""


class OneProcess:
    """A run of its own."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give everything."""
        return items

    def gather(self, part: Any) -> list[Any]:
        """Give the one part."""
        return [part]

    def compare(self, part: Any) -> list[Any]:
        """Give the one part."""
        return [part]


class TpuHosts(OneProcess):
    """A host of a TPU slice of several: each runs the same program on everything, and the first alone writes.

    They meet at the first one's address, to compare what each has read and decided.
    """

    def __init__(self, host: TpuHost, surroundings: Surroundings = os.environ) -> None:
        from torch import distributed

        address = surroundings.get("MASTER_ADDR") or host.first_address
        if not address:
            raise UsageError(
                f"a TPU slice of {host.count} hosts, and nothing says where the first one is: export MASTER_ADDR"
            )
        place = f"tcp://{address}:{surroundings.get('MASTER_PORT') or FIRST_PORT}"
        self._distributed, self.rank, self._hosts = distributed, host.number, host.count
        distributed.init_process_group("gloo", init_method=place, rank=host.number, world_size=host.count)

    def compare(self, part: Any) -> list[Any]:
        """Exchange objects by pickle, as torch.distributed does, among hosts of this run only."""
        found: list[Any] = [None] * self._hosts
        self._distributed.all_gather_object(found, part)
        return found


class TorchProcesses:
    """The processes that a launcher started, through torch.distributed (gloo on CPUs, NCCL between GPUs).

    device: "cpu" or "cuda"; each process takes one of its machine's GPUs, which becomes torch's current one.
    """

    def __init__(self, launched: Launched, device: str) -> None:
        from torch import distributed

        self._distributed = distributed
        take_device(device, find_turn(Rank(launched.number, launched.count), os.environ))
        os.environ.update(meeting_place(launched, os.environ))
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def share(self, items: Sequence[Part]) -> Sequence[Part]:
        """Give every size-th item."""
        return items[self.rank :: self.size]

    def gather(self, part: Any) -> list[Any]:
        """Exchange objects by pickle, as torch.distributed does, among processes of this run only."""
        found: list[Any] = [None] * self.size
        self._distributed.all_gather_object(found, part)
        return found

    compare = gather


def require_same(processes: Processes, part: Any, what: str) -> None:
    """Raise RunError where processes or hosts of a run disagree in something that decides what they do."""
    found = processes.compare(part)
    if any(one != found[0] for one in found):
        odd = next(number for number, one in enumerate(found) if one != found[0])
        raise RunError(
            f"{what}: process {odd} of {len(found)} has another one than the first; all must see the same bucket, "
            "--store, --runs and --cache-dir: share those folders, and give the same command everywhere"
        )


def meeting_place(launched: Launched, surroundings: Surroundings) -> Mapping[str, str]:
    """Give the variables by which torch.distributed meets: what torchrun exports, of srun and mpirun too.

    Raises UsageError where nothing tells the address of the first machine.
    """
    address = surroundings.get("MASTER_ADDR") or _first_machine(launched, surroundings)
    if not address:
        raise UsageError(
            f"{launched.by} started {launched.count} processes on several machines, and nothing says where they meet: "
            "export MASTER_ADDR (the first machine) and MASTER_PORT, or start them with torchrun"
        )
    job = surroundings.get("SLURM_JOB_ID", "")
    port = FIRST_PORT + (int(job) if job.isdecimal() else 0) % PORTS
    return {
        "RANK": str(launched.number),
        "WORLD_SIZE": str(launched.count),
        "MASTER_ADDR": address,
        "MASTER_PORT": surroundings.get("MASTER_PORT") or str(port),
    }


def _first_machine(launched: Launched, surroundings: Surroundings) -> str:
    """Read the first of "node[03-05,9],other"; of one machine this one."""
    if launched.local_count == launched.count:
        return "127.0.0.1"
    names = surroundings.get("SLURM_STEP_NODELIST") or surroundings.get("SLURM_JOB_NODELIST", "")
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", names)
    return "".join(part or "" for part in found.groups()) if found else ""


def require_one_process(device: str) -> None:
    """Raise UsageError where a launcher, or a TPU slice of several machines, has this process among others."""
    host = find_host() if resolve(device) == "xla" else None
    if find_launched(os.environ) or _world_size() > 1 or (host and host.count > 1):
        raise UsageError("evaluate runs in one process on one host, so that a look is counted once; start it alone")


def require_several_processes(option: str) -> None:
    """Raise UsageError where nobody started this process among others."""
    if find_launched(os.environ) is None:
        raise UsageError(
            f"{option} says how processes share the training; this is one: --gpus or torchrun start several"
        )


def open_processes(device: str) -> Processes:
    """Join the processes of a launcher where one started this one; know a later host of a TPU slice; else be alone.

    Raises: UsageError, DeviceError.
    """
    kind = resolve(device)
    if kind == "xla":
        host = find_host()
        return TpuHosts(host) if host and host.count > 1 else OneProcess()
    if launched := find_launched(os.environ):
        return TorchProcesses(launched, kind)
    if (size := _world_size()) > 1:
        raise UsageError(f"WORLD_SIZE={size}: expected RANK, too, as torchrun sets it, got none")
    return OneProcess()


def _world_size() -> int:
    """Read what torchrun says of the count of processes, even where it does not say which one this is."""
    said = os.environ.get("WORLD_SIZE", "")
    return int(said) if said.isdecimal() else 1
