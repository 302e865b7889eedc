"""What a person sees while volumes are encoded: a bar on a terminal, a line every few seconds in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from time import perf_counter

from embeddings_store.terminal.console import is_watched, say

SECONDS_TO_FIRST_LINE = 3.0
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts volumes that are done: committed, or error rows. Thread-safe.

    unit: what is counted, in the plural. more: tells what else a person wants to see.
    """

    def __init__(self, total: int, unit: str = "volumes", more: Callable[[], str] | None = None) -> None:
        self.total = total
        self.done = 0
        self.errors = 0
        self._unit, self._more = unit, more
        self._lock = Lock()
        self._start = perf_counter()

    def advance(self, *, failed: bool) -> None:
        """Count one volume."""
        with self._lock:
            self.done += 1
            self.errors += failed

    def describe(self) -> str:
        """Tell volumes done, errors, speed and the time that is left."""
        elapsed = perf_counter() - self._start
        speed = self.done / elapsed if elapsed > 0 else 0.0
        left = f"{_clock((self.total - self.done) / speed)} left" if speed else "no estimate yet"
        told = f"; {self._more()}" if self._more else ""
        unit = self._unit
        return f"{self.done:,} of {self.total:,} {unit}, {self.errors:,} errors, {speed:.2f} {unit}/s, {left}{told}"


@contextmanager
def show_progress(total: int, unit: str = "volumes", more: Callable[[], str] | None = None) -> Iterator[Progress]:
    """Show a bar when stderr is a terminal, else a line now and then; both keep moving while one volume is slow."""
    progress = Progress(total, unit, more)
    with _bar(progress) if is_watched() else _lines(progress):
        yield progress


@contextmanager
def _bar(progress: Progress) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Described(ProgressColumn):
        def render(self, task: Task) -> Text:
            task.completed = progress.done
            return Text(progress.describe())

    with RichProgress(BarColumn(), Described(), console=Console(stderr=True)) as bar:
        bar.add_task("encoding", total=progress.total)
        yield


@contextmanager
def _lines(progress: Progress) -> Iterator[None]:
    stop = Event()

    def talk() -> None:
        pause = SECONDS_TO_FIRST_LINE
        while not stop.wait(pause):
            say(progress.describe())
            pause = SECONDS_BETWEEN_LINES

    talker = Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield
    finally:
        stop.set()
        talker.join()
        say(progress.describe())


def _clock(seconds: float) -> str:
    """Write seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
