"""The seam to other processes that work for a run: who may sit where, and one question to one worker at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from extract.device.here import NOUNS
from extract.engines.hired_worker import Assignment

LOOK = "look"


class LostWorkerError(Exception):
    """A worker's process or node is gone, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one worker sits. address: of its machine; neighbours: workers on the same machine, itself included.

    node: the machine, as the cluster knows it. number: which of this machine's devices, None on another machine.
    """

    node: str
    address: str
    cores: int
    device: Literal["cpu", "cuda", "xla"]
    neighbours: int
    number: str | None = None

    @property
    def kind(self) -> str:
        """Name what there is one worker for: a GPU, a chip, or a node without either."""
        return NOUNS.get(self.device, "node")

    @property
    def place(self) -> str:
        """Name the place for a person."""
        return f"node {self.address}" if self.number is None else f"{self.kind} {self.number}"


@runtime_checkable
class Cluster(Protocol):
    """Workers that are hired, asked and dismissed. Workers and questions are whatever the cluster makes of them."""

    @property
    def name(self) -> str:
        """Name the cluster, as its lines begin: "ray"."""

    @property
    def seats(self) -> Sequence[Seat]:
        """Give one seat for each worker that the cluster has room for."""

    def hire(self, seat: Seat, assignment: Assignment) -> Any:
        """Ask for a worker; it may take time until there is room for it."""

    def ask(self, worker: Any, method: str, *given: Any) -> Any:
        """Ask a worker to do something; gives the question, at once."""

    def answered(self, questions: Sequence[Any], timeout_s: float) -> list[Any]:
        """Wait for at least one answer, at most so long; give the questions that have one."""

    def answer(self, question: Any) -> Any:
        """Give an answer. Raises: LostWorkerError; RunError where the worker itself fails."""

    def dismiss(self, worker: Any) -> None:
        """End a worker's process at once."""
