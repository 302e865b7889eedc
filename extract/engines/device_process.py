"""The other side of ProcessCluster: a process with one device, which answers until nobody asks any more."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from extract.engines.cluster import LOOK
from extract.engines.hired_worker import HiredWorker, unexpected


def main() -> None:
    """Serve the pipe whose number is the argument. What is asked of LOOK does not wait for what is done."""
    for number in (signal.SIGINT, signal.SIGTERM):  # for the parent, which passes them on; its end closes the pipe
        signal.signal(number, signal.SIG_IGN)
    pipe, lock = Connection(int(sys.argv[1])), Lock()
    worker = HiredWorker(pipe.recv())

    def answer(number: int, method: str, given: tuple[Any, ...]) -> None:
        try:
            value = getattr(worker, method)(*given)
        except BaseException as error:  # noqa: BLE001 - the one who asked is in another process
            value = unexpected(error)
        with lock:
            pipe.send((number, value))

    looking, doing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    try:
        while True:
            asked = pipe.recv()
            (looking if asked[1] == LOOK else doing).submit(answer, *asked)
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone: threads that are at work leave nothing half-written


if __name__ == "__main__":
    main()
