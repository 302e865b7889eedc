"""SIGINT and SIGTERM in a long run: the first asks for a clean end, the second is obeyed at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from embeddings_store.terminal.console import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHELL_OFFSET = 128
"""What a shell adds to a signal's number to make the exit code of what it ended: 130, 143."""


@dataclass
class StopRequest:
    """Whether the run was asked to end, and who wants to know it at once."""

    signal_number: int | None = None
    _told: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str | None:
        """Name the signal, such as "SIGTERM"."""
        return None if self.signal_number is None else signal.Signals(self.signal_number).name

    def ask(self, signal_number: int) -> None:
        """Ask the run to end."""
        self.signal_number = signal_number
        for call in self._told:
            call()

    def tell(self, *calls: Callable[[], None]) -> None:
        """Call these, from a signal's handler, as soon as the run is asked to end; at once if it was."""
        self._told += calls
        if self.signal_number is not None:
            self.ask(self.signal_number)


def exit_code_of(name: str) -> int:
    """Give the exit code of a run that a signal ended: 130 after SIGINT, 143 after SIGTERM."""
    return SHELL_OFFSET + signal.Signals[name]


ENCODING = (
    "no new volumes are taken; what the encoder has begun is finished and written, which takes as long as one forward "
    "pass (a full-size volume on a CPU: a minute); the rest is left for the next run. A second signal ends this one at "
    "once; no row can be half-written"
)


@contextmanager
def stop_on_signals(tell: Callable[[str], None] = say, words: str = ENCODING) -> Iterator[StopRequest]:
    """Turn the first signal into a request, and let the second end the process as if nobody had listened.

    words: what a person reads at the first one. Processes that are forked meanwhile leave both to this one.
    Only the main thread may listen for signals: elsewhere nobody does, and the caller's own rules hold.
    """
    request, own = StopRequest(), os.getpid()

    def obey(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            return
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        tell(f"{signal.Signals(number).name}: {words}")
        request.ask(number)

    if current_thread() is not main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {one: signal.signal(one, obey) for one in SIGNALS}
    try:
        yield request
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
