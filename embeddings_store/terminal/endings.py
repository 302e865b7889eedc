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


def obey_endings(code: int, say: Callable[[], None]) -> None:
    """Let TERM and HUP end this process as Ctrl-C does, and each of them within PATIENCE_S: with a code, after a word.

    Whoever listens for a signal in a way of its own, such as an extraction, is left to it. Main thread only.
    """
    for ending in ENDINGS[1:]:
        if signal.getsignal(ending) is signal.SIG_DFL:  # nohup's stays
            signal.signal(ending, signal.default_int_handler)
    heard, hear = os.pipe()
    os.set_blocking(hear, False)
    signal.set_wakeup_fd(hear, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own
    Thread(target=_watch, args=(heard, code, say), name="endings", daemon=True).start()


def _watch(heard: int, code: int, say: Callable[[], None]) -> None:
    while number := os.read(heard, 1):
        if number[0] in ENDINGS and signal.getsignal(number[0]) is signal.default_int_handler:
            time.sleep(PATIENCE_S)
            say()
            os._exit(code)
