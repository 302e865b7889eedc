"""The volumes that a cluster has yet to be given."""

from collections import deque
from collections.abc import Iterable

from extract.targets import Job

PORTIONS_LEFT = 2


class JobQueue:
    """Jobs in the order of the bucket; what comes back goes to the front."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = deque(jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def fair(self, workers: int) -> int:
        """Give what each of the workers may hold: less and less, so that none is at work long after the rest."""
        return -(-len(self._jobs) // (PORTIONS_LEFT * workers))

    def take(self, most: int) -> list[Job]:
        """Give the next jobs."""
        return [self._jobs.popleft() for _ in range(min(max(most, 0), len(self._jobs)))]

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Take jobs back that a worker was given and did not do."""
        self._jobs.extendleft(reversed(list(jobs)))

    def clear(self) -> None:
        """Forget what is left: the run was asked to end."""
        self._jobs.clear()
