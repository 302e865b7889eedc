"""A signal that ends a command ends it, even where the main thread waits in native code and cannot hear of it.

Python runs handlers between its own instructions only: a request that a server never answers held them back for
minutes, and Ctrl-C, TERM and HUP with them.
"""

import os
import signal
import time
from collections.abc import Callable
from threading import Thread

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 5.0
"""How long a command that was asked to end may take to put away what it has begun."""
_HEARING: list[int] = []
"""The end of the pipe into which Python writes the signals of this process, if there is one."""


def obey_endings(code: int, say: Callable[[], None]) -> None:
    """Let TERM and HUP end this process as Ctrl-C does, and each of them within PATIENCE_S: with a code, after a word.

    Whoever listens for a signal in a way of its own, such as an extraction, is left to it. Main thread only. A second
    call takes the place of the first.
    """
    for ending in ENDINGS[1:]:
        if signal.getsignal(ending) is signal.SIG_DFL:  # nohup's stays
            signal.signal(ending, signal.default_int_handler)
    heard, hear = os.pipe()
    os.set_blocking(hear, False)
    signal.set_wakeup_fd(hear, warn_on_full_buffer=False)
    if _HEARING:
        os.close(_HEARING.pop())  # which ends the thread at its other end
    else:
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own
    _HEARING.append(hear)
    Thread(target=_watch, args=(heard, code, say), name="endings", daemon=True).start()


def _watch(heard: int, code: int, say: Callable[[], None]) -> None:
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in ENDINGS and signal.getsignal(number[0]) is signal.default_int_handler:
                time.sleep(PATIENCE_S)
                say()
                os._exit(code)
