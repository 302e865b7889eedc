"""Signals that ask for an end: the first is a request, and a forked process leaves it to its parent."""

import os
import signal

from extract.stop import stop_on_signals


def test_the_first_signal_is_a_request_and_the_handlers_of_before_come_back() -> None:
    before, heard, called = signal.getsignal(signal.SIGTERM), list[str](), list[int]()
    with stop_on_signals(heard.append, "words") as request:
        request.tell(lambda: called.append(1))
        os.kill(os.getpid(), signal.SIGTERM)
        assert (request.name, heard, called) == ("SIGTERM", ["SIGTERM: words"], [1])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends the process
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_forked_process_leaves_the_signal_to_its_parent() -> None:
    heard = list[str]()
    with stop_on_signals(heard.append) as request:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7 if request.name is None and not heard else 8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert (request.name, heard) == (None, [])
