"""Which of how many processes this one is: said by the user, by the device's runtime, or by whoever started it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from embeddings_store.errors import UsageError
from embeddings_store.ranks import Rank

Surroundings = Mapping[str, str]
Numbered = tuple[int, int]
"""A number, from 0, and the count."""

ALONE = "one process"


@dataclass(frozen=True, slots=True)
class Launched:
    """What a launcher calls a process: its number and the count of all, then the same on this machine.

    by: the launcher. machines: how many the numbers span, where it says.
    """

    by: str
    number: int
    count: int
    local: int | None
    local_count: int | None
    machines: int | None = None


LAUNCHERS: Mapping[str, tuple[str, ...]] = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    "Open MPI": (
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "MPI": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}  # fmt: skip
"""The variables of those that start processes, in the order of the fields of Launched."""

COUNTLESS = ("PBS_ARRAY_INDEX", "SGE_TASK_ID", "LSB_JOBINDEX", "JOB_COMPLETION_INDEX")
"""What array jobs of other schedulers are told, which does not say how many there are."""


def find_rank(
    number: int | None, count: int | None, surroundings: Surroundings, device_rank: Numbered = (0, 1)
) -> tuple[Rank, str]:
    """Give the rank, and where it was learnt; one of one where nothing says otherwise.

    number, count: --rank and --ranks. device_rank: which of how many machines this is, as the accelerator's runtime
    says, which comes before schedulers.
    Raises UsageError for one of --rank and --ranks without the other, and for a number that is none of them.
    """
    if (number is None) != (count is None):
        raise UsageError("--rank and --ranks: expected both (process R of N, counted from 0) or neither, got one")
    if number is not None and count is not None:
        return Rank(number, count), "--rank, --ranks"
    element, elements = (0, 1) if device_rank[1] > 1 else _array(surroundings)
    inner, name = _process(surroundings, device_rank)
    name = "SLURM" if name == ALONE and elements > 1 else name
    try:
        return Rank(element * inner[1] + inner[0], elements * inner[1]), name
    except UsageError as error:
        raise UsageError(f"{name} makes this {error}; say --rank and --ranks") from error


def find_launched(surroundings: Surroundings) -> Launched | None:
    """Give what a launcher, or srun, says of this process; None where none started it among others."""
    for by, names in LAUNCHERS.items():
        number, count, *others = (_whole(surroundings, name) for name in names)
        if number is not None and count is not None and count > 1:
            local = others[0] if others[0] is not None else _whole(surroundings, "SLURM_LOCALID")
            return Launched(by, number, count, local, *others[1:])
    number, count = _whole(surroundings, "SLURM_PROCID"), _whole(surroundings, "SLURM_NTASKS")
    if not _is_slurm_task(surroundings) or number is None or count is None or count == 1:
        return None
    return Launched("SLURM", number, count, _whole(surroundings, "SLURM_LOCALID"), _tasks_here(surroundings))


def find_turn(rank: Rank, surroundings: Surroundings) -> int:
    """Give which of this machine's processes this is, by which it chooses its device.

    As the launcher counts them on this machine, else the rank itself: neighbours then have different ones.
    """
    launched = find_launched(surroundings)
    return rank.number if launched is None or launched.local is None else launched.local


def has_neighbours(surroundings: Surroundings) -> bool:
    """Say whether a launcher started several processes on this machine, each of which takes one of its devices."""
    launched = find_launched(surroundings)
    return launched is not None and launched.local_count != 1


def describe_loneliness(rank: Rank, surroundings: Surroundings) -> str | None:
    """Say why a process that takes itself for the only one may be wrong; None where nothing speaks for it."""
    if rank.count > 1:
        return None
    tasks = _whole(surroundings, "SLURM_NTASKS") or 1
    if tasks > 1 and not _is_slurm_task(surroundings):
        return f"SLURM has {tasks} tasks for this job, and this process is none of them (srun starts them)"
    for name in COUNTLESS:
        if surroundings.get(name, "").isdecimal():
            return f"{name}={surroundings[name]}: this process is one of several, and nothing says of how many"
    return None


def _process(surroundings: Surroundings, device_rank: Numbered) -> tuple[Numbered, str]:
    """Read which process this is, in one element of an array of jobs."""
    machine, name = (device_rank, "torch_xla") if device_rank[1] > 1 else (_tpu_pod(surroundings), "TPU_WORKER_ID")
    launched = find_launched(surroundings)
    if launched is None or (launched.by == "SLURM" and machine[1] > 1):
        return (machine, name) if machine[1] > 1 else ((0, 1), ALONE)
    if launched.by == "torchrun" and launched.machines == 1:  # it knows of one machine, whatever others there are
        others = [(machine, name), (_slurm_tasks(surroundings), "SLURM")]
        machine, name = next((one for one in others if one[0][1] > 1), ((0, 1), ""))
        number, count = machine
        both = (number + count * launched.number, count * launched.count)
        return both, f"{name} and torchrun" if count > 1 else "torchrun"
    return (launched.number, launched.count), launched.by


def _is_slurm_task(surroundings: Surroundings) -> bool:
    """A batch script itself is no task, whatever SLURM_PROCID says."""
    in_batch_script = "SLURM_JOB_ID" in surroundings and "SLURM_STEP_ID" not in surroundings
    return not in_batch_script and "SLURM_PROCID" in surroundings


def _slurm_tasks(surroundings: Surroundings) -> Numbered:
    number, count = _whole(surroundings, "SLURM_PROCID"), _whole(surroundings, "SLURM_NTASKS")
    known = _is_slurm_task(surroundings) and number is not None and count is not None
    return (number, count) if known else (0, 1)  # type: ignore[return-value]  # known says that neither is None


def _tasks_here(surroundings: Surroundings) -> int | None:
    """Read SLURM_STEP_TASKS_PER_NODE, such as "4(x2),3": of the node whose number SLURM_NODEID is."""
    counts: list[int] = []
    for part in surroundings.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part):
            counts += [int(found[1])] * int(found[2] or 1)
    node = _whole(surroundings, "SLURM_NODEID")
    return counts[node] if node is not None and node < len(counts) else None


def _array(surroundings: Surroundings) -> Numbered:
    """Read which element of a SLURM array this job is."""
    element, elements = (_whole(surroundings, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    if element is None or elements is None:
        return 0, 1
    first = _whole(surroundings, "SLURM_ARRAY_TASK_MIN") or 0
    step = _whole(surroundings, "SLURM_ARRAY_TASK_STEP") or 1
    return (element - first) // step, elements


def _tpu_pod(surroundings: Surroundings) -> Numbered:
    """Read what Kubernetes tells a machine of a TPU slice: its number, and the names of all."""
    worker = _whole(surroundings, "TPU_WORKER_ID")
    hosts = [host for host in surroundings.get("TPU_WORKER_HOSTNAMES", "").split(",") if host.strip()]
    return (0, 1) if worker is None or not hosts else (worker, len(hosts))


def _whole(surroundings: Surroundings, name: str) -> int | None:
    text = surroundings.get(name, "")
    return int(text) if text.isdecimal() else None
