"""Which of how many processes: options first, then the device's runtime, then the scheduler."""

import pytest

from embeddings_store.errors import UsageError
from embeddings_store.ranks import Rank
from extract.rank import find_rank

STEP = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("surroundings", "rank", "told_by"),
    [
        ({}, (0, 1), "one process"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8), "SLURM"),
        (STEP | {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8), "SLURM"),
        # A batch script runs once, whatever number of tasks it may start with srun.
        ({"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1), "one process"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, (0, 4), "SLURM"),
        (
            {"SLURM_ARRAY_TASK_ID": "10", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "4",
             "SLURM_ARRAY_TASK_STEP": "2"},
            (3, 4),
            "SLURM",
        ),
        # An array of jobs, each of which starts tasks.
        (
            STEP | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_ARRAY_TASK_ID": "2",
                    "SLURM_ARRAY_TASK_COUNT": "3"},
            (5, 6),
            "SLURM",
        ),
        ({"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "10.0.0.2,10.0.0.3"}, (1, 2), "TPU_WORKER_ID"),
        ({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}, (0, 1), "one process"),
        ({"TPU_WORKER_ID": "0"}, (0, 1), "one process"),
    ],
)  # fmt: skip
def test_the_scheduler_says(surroundings: dict[str, str], rank: tuple[int, int], told_by: str) -> None:
    assert find_rank(None, None, surroundings) == (Rank(*rank), told_by)


def test_the_user_is_heard_first_and_then_the_device() -> None:
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}
    assert find_rank(0, 1, slurm, (2, 4)) == (Rank(0, 1), "--rank, --ranks")
    assert find_rank(None, None, slurm, (2, 4)) == (Rank(2, 4), "torch_xla")


@pytest.mark.parametrize(("number", "count"), [(1, None), (None, 2)])
def test_one_without_the_other_is_refused(number: int | None, count: int | None) -> None:
    with pytest.raises(UsageError, match="expected both"):
        find_rank(number, count, {})


def test_a_number_beyond_the_count_is_refused() -> None:
    with pytest.raises(UsageError, match="rank 4 of 4"):
        find_rank(4, 4, {})
    sparse = {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}
    with pytest.raises(UsageError, match=r"SLURM makes this rank 8 of 3: .* say --rank and --ranks"):
        find_rank(None, None, sparse)
