"""A cluster of processes on this machine: one for each GPU or TPU chip, which sees no other device."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from extract.engines.cluster import LostWorkerError, Seat
from extract.engines.hired_worker import Assignment

COMMAND = (sys.executable, "-P", "-m", "extract.engines.device_process")
END_S = 10.0


@dataclass(eq=False)
class Question:
    """What a worker was asked; has_answer: it came, or never will."""

    worker: "WorkerProcess"
    has_answer: bool = False
    value: Any = None


@dataclass(eq=False)
class WorkerProcess:
    """A process, the pipe to it, and what it has yet to answer, by number."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    asked: dict[int, Question] = field(default_factory=dict)
    count: int = 0
    is_lost: bool = False

    def ask(self, method: str, given: tuple[Any, ...]) -> Question:
        """Send a question; of a process that is gone the answer is that it is lost."""
        question = Question(self)
        self.asked[self.count] = question
        try:
            self.pipe.send((self.count, method, given))
        except OSError:
            self.lose()
        self.count += 1
        return question

    def hear(self) -> None:
        """Take in one answer."""
        try:
            number, value = self.pipe.recv()
        except (EOFError, OSError):
            self.lose()
            return
        question = self.asked.pop(number)
        question.has_answer, question.value = True, value

    def lose(self) -> None:
        """Note that nothing more will come."""
        self.is_lost = True
        for question in self.asked.values():
            question.has_answer = True
        self.asked.clear()

    def describe_end(self) -> str:
        """Say how the process ended, once it has."""
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(END_S)
            return f"its process ended with {f'signal {-status}' if status < 0 else f'exit status {status}'}"
        return "its process does not answer"


class ProcessCluster:
    """Processes of this machine. surroundings: what each seat's process finds in its environment, by device number."""

    def __init__(self, name: str, seats: Sequence[Seat], surroundings: Mapping[str, Mapping[str, str]]) -> None:
        self.name, self.seats, self._surroundings = name, seats, surroundings

    def hire(self, seat: Seat, assignment: Assignment) -> WorkerProcess:
        """Start a process; it ends at the latest with this one, whose pipe it reads."""
        ours, theirs = Pipe()
        knows = {**os.environ, **self._surroundings[seat.number or ""]}
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            (*COMMAND, str(theirs.fileno())), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env=knows,
        )  # fmt: skip
        theirs.close()
        worker = WorkerProcess(process, ours)
        with suppress(OSError):  # it is gone already, which the first question will show
            ours.send(assignment)
        return worker

    def ask(self, worker: WorkerProcess, method: str, *given: Any) -> Question:
        """Write the question into the pipe."""
        return worker.ask(method, given)

    def answered(self, questions: Sequence[Question], timeout_s: float) -> list[Question]:
        """Read what the pipes of these workers bring, until one of the questions has its answer."""
        deadline = time.monotonic() + timeout_s
        while not (found := [one for one in questions if one.has_answer]):
            pipes = {one.worker.pipe: one.worker for one in questions}
            ready = wait(list(pipes), max(0.0, deadline - time.monotonic()))
            if not ready:
                return []
            for pipe in ready:
                pipes[pipe].hear()  # type: ignore[index]  # wait gives back what it was given
        return found

    def answer(self, question: Question) -> Any:
        """Give an answer that is there."""
        if question.worker.is_lost and question.value is None:
            raise LostWorkerError(question.worker.describe_end())
        return question.value

    def dismiss(self, worker: WorkerProcess) -> None:
        """Kill the process."""
        worker.process.kill()
        worker.process.wait()
        worker.pipe.close()
        worker.lose()
