"""Threads of several stages that begin and end together: the first that fails stops them all."""

from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock, Thread
from typing import Protocol, runtime_checkable

from extract.engines.channel import GivenUpError


@runtime_checkable
class Waited(Protocol):
    """Where threads wait for each other."""

    def give_up(self) -> None:
        """Let nobody wait here any longer."""


class Crew:
    """Runs the threads of a pass. places: all that threads wait at; given up as soon as one of them fails."""

    def __init__(self, places: Iterable[Waited]) -> None:
        self._places = list(places)
        self._threads: list[tuple[Thread, bool]] = []
        self._failures: list[BaseException] = []
        self._lock = Lock()

    def start(
        self, name: str, count: int, work: Callable[[], None], leave: Callable[[], None], *, awaited: bool = True
    ) -> None:
        """Start ``count`` threads; each calls ``leave`` when its work is over.

        awaited: False for threads that may hang in a network when the others are done with an interrupted run.
        """
        for number in range(count):
            thread = Thread(target=partial(self._run, work, leave), name=f"{name}-{number}", daemon=True)
            self._threads.append((thread, awaited))
            thread.start()

    def join(self) -> None:
        """Wait for the threads that are to be awaited. Raises what the first of them raised that failed."""
        for thread, awaited in self._threads:
            if awaited:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self, work: Callable[[], None], leave: Callable[[], None]) -> None:
        try:
            work()
        except GivenUpError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by join, in the thread that waits for all
            self._fail(error)
        finally:
            leave()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failures.append(error)
        for place in self._places:
            place.give_up()
