"""Which of how many processes this one is: said by the user, or by the scheduler that started it."""

from collections.abc import Callable, Mapping

from embeddings_store.errors import UsageError
from embeddings_store.ranks import Rank

Surroundings = Mapping[str, str]


def find_rank(
    number: int | None, count: int | None, surroundings: Surroundings, device_rank: tuple[int, int] = (0, 1)
) -> tuple[Rank, str]:
    """Give the rank, and where it was learnt; one of one where nothing says otherwise.

    number, count: --rank and --ranks. device_rank: what the accelerator's runtime says, which comes before schedulers.
    Raises UsageError for one of --rank and --ranks without the other, and for a number that is none of them.
    """
    if (number is None) != (count is None):
        raise UsageError("--rank and --ranks: expected both (process R of N, counted from 0) or neither, got one")
    if number is not None and count is not None:
        return Rank(number, count), "--rank, --ranks"
    if device_rank[1] > 1:
        return Rank(*device_rank), "torch_xla"
    for name, read in SCHEDULERS.items():
        found = read(surroundings)
        if found is not None and found[1] > 1:
            return _checked(found, name), name
    return Rank(0, 1), "one process"


def _slurm(surroundings: Surroundings) -> tuple[int, int] | None:
    """Read a job array, the tasks of srun, or both; a batch script itself is no task, whatever SLURM_PROCID says."""
    number, count = _whole(surroundings, "SLURM_PROCID"), _whole(surroundings, "SLURM_NTASKS")
    in_batch_script = "SLURM_JOB_ID" in surroundings and "SLURM_STEP_ID" not in surroundings
    if in_batch_script or number is None or count is None:
        number, count = 0, 1
    element, elements = (_whole(surroundings, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    if element is None or elements is None:
        return number, count
    first = _whole(surroundings, "SLURM_ARRAY_TASK_MIN") or 0
    step = _whole(surroundings, "SLURM_ARRAY_TASK_STEP") or 1
    return (element - first) // step * count + number, elements * count


def _tpu_pod(surroundings: Surroundings) -> tuple[int, int] | None:
    """Read what a TPU VM of a pod is told: its number, and the names of all."""
    worker = _whole(surroundings, "TPU_WORKER_ID")
    hosts = [host for host in surroundings.get("TPU_WORKER_HOSTNAMES", "").split(",") if host.strip()]
    return None if worker is None else (worker, len(hosts))


SCHEDULERS: dict[str, Callable[[Surroundings], tuple[int, int] | None]] = {
    "SLURM": _slurm,
    "TPU_WORKER_ID": _tpu_pod,
}


def _checked(found: tuple[int, int], name: str) -> Rank:
    try:
        return Rank(*found)
    except UsageError as error:
        raise UsageError(f"{name} makes this {error}; say --rank and --ranks") from error


def _whole(surroundings: Surroundings, name: str) -> int | None:
    text = surroundings.get(name, "")
    return int(text) if text.isdecimal() else None
