"""The volumes that a cluster has yet to be given, in portions that end at about the same time everywhere."""

from collections import deque
from collections.abc import Iterable

from extract.targets import Job

PORTIONS_LEFT = 2  # for each worker, of what is left: later portions are smaller, so that none ends long after the rest


class JobQueue:
    """Jobs in the order of the bucket; what comes back goes to the front."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = deque(jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def take(self, room: int, workers: int) -> list[Job]:
        """Give one worker of several what it should have next, at most ``room`` volumes."""
        fair = -(-len(self._jobs) // (PORTIONS_LEFT * workers))
        return [self._jobs.popleft() for _ in range(min(max(room, 0), fair))]

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Take jobs back that a worker was given and did not do."""
        self._jobs.extendleft(reversed(list(jobs)))

    def clear(self) -> None:
        """Forget what is left: the run was asked to end."""
        self._jobs.clear()
