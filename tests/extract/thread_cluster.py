"""A cluster in threads of this process: the same workers, lost when a test wants it."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from extract.engines.cluster import LOOK, LostWorkerError, Seat
from extract.engines.hired_worker import Assignment, HiredWorker, WorkReport

Doctor = Callable[["Hired", Any], Any]


@dataclass(eq=False)
class Hired:
    """One worker: its number in the order of hiring, and its process, as it were."""

    number: int
    seat: Seat
    inner: HiredWorker
    lost: bool = False
    calls: list[tuple[str, int]] = field(default_factory=list)
    threads: dict[bool, ThreadPoolExecutor] = field(
        default_factory=lambda: {of_look: ThreadPoolExecutor(1) for of_look in (False, True)}
    )


class ThreadCluster:
    """seats: one for each name. change: what an assignment becomes; hear: sees every answer, and may change it."""

    name = "ray"

    def __init__(
        self,
        names: Sequence[str],
        *,
        cores: int = 1,
        change: Callable[[int, Assignment], Assignment] = lambda _, given: given,
        hear: Doctor = lambda _, answer: answer,
    ) -> None:
        self.seats = [Seat(name, name, cores, "cpu", len(names)) for name in names]
        self.hired: list[Hired] = []
        self._change, self._hear = change, hear
        self._asked: dict[Future[Any], Hired] = {}

    def hire(self, seat: Seat, assignment: Assignment) -> Hired:
        number = len(self.hired)
        self.hired.append(Hired(number, seat, HiredWorker(self._change(number, assignment))))
        return self.hired[-1]

    def ask(self, worker: Hired, method: str, *given: Any) -> Future[Any]:
        worker.calls.append((method, len(given[0]) if method == "give" else 0))
        question = Future[Any]()
        if worker.lost:
            question.set_result(None)
        else:
            question = worker.threads[method == LOOK].submit(getattr(worker.inner, method), *given)
        self._asked[question] = worker
        return question

    def answered(self, questions: Sequence[Future[Any]], timeout_s: float) -> list[Future[Any]]:
        return list(wait(questions, timeout_s, return_when=FIRST_COMPLETED).done)

    def answer(self, question: Future[Any]) -> Any:
        worker = self._asked[question]
        answer = self._hear(worker, question.result())
        if worker.lost:
            raise LostWorkerError("the actor died")
        return answer

    def dismiss(self, worker: Hired) -> None:
        worker.lost = True
        worker.inner.stop(9)
        for threads in worker.threads.values():
            threads.shutdown(wait=False)


def lose_after_rows(rows: int, number: int = 0) -> Doctor:
    """Lose one worker as soon as it reports so many rows; it says nothing of its last ones."""

    def hear(worker: Hired, answer: Any) -> Any:
        if worker.number == number and isinstance(answer, WorkReport) and answer.done >= rows:
            worker.lost = True
        return answer

    return hear
