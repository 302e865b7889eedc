"""INT, TERM and HUP end a command that waits for a server which never answers, and leave those that listen alone."""

import os
import signal
import socket
import subprocess
import sys

import pytest

WAITING = """
import signal, sys
from embeddings_store.ranks import Rank, Waiting, announce_volumes
from embeddings_store.storage import concurrently, open_storage
from embeddings_store.terminal import endings
from embeddings_store.terminal.console import new_app, run_command
from embeddings_store.writer import StoreWriter

endings.PATIENCE_S, app = 0.2, new_app("waits")
rank_1 = StoreWriter.__new__(StoreWriter)
rank_1.storage = open_storage("s3://bucket/store", create=False)

@app.command()
def wait(what: str) -> None:
    if what == "listening":
        signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
    if what == "pool":
        list(concurrently(rank_1.storage.get, ["a", "b"]))
    elif what == "rank":
        announce_volumes(rank_1, [], Rank(1, 2))
    else:
        rank_1.storage.get("a")

run_command(app)
"""
REFUSED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def asked(what: str) -> tuple[subprocess.Popen[str], socket.socket, socket.socket]:
    """Start a command; give it, the server and the connection on which it has asked, and waits."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    surroundings = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, what], env=os.environ | surroundings, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    server.settimeout(60)
    connection, _ = server.accept()
    assert connection.recv(4) in (b"GET ", b"HEAD")
    return process, server, connection


@pytest.mark.parametrize(
    ("what", "number"),
    [("rank", signal.SIGTERM), ("pool", signal.SIGHUP), ("alone", signal.SIGINT), ("alone", signal.SIGTERM)],
)
def test_a_signal_ends_what_waits_in_native_code(what: str, number: signal.Signals) -> None:
    process, server, connection = asked(what)
    with process, server, connection:
        process.send_signal(number)
        try:
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stderr.splitlines() == [
        "interrupted: nothing half-written was published; rows that were committed are kept"
    ]  # fmt: skip


def test_who_listens_in_a_way_of_its_own_is_left_to_it() -> None:
    process, server, connection = asked("listening")
    with process, server, connection:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.5)
        connection.sendall(REFUSED)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (0, "heard\n", "")


DROPPED = """
import threading
from embeddings_store.storage import concurrently
from finetune.data.ahead import read_ahead

made = {call}
next(made)
with threading._shutdown_locks_lock:  # as where the garbage collector runs while a thread is being started
    made.close()
print("over")
"""


@pytest.mark.parametrize(
    "call", ["concurrently(str, range(99))", "read_ahead(range(9), str, threads=2, budget_bytes=9, cost_bytes=int)"]
)
def test_what_is_dropped_before_its_end_waits_for_no_thread(call: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED.format(call=call)], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


def test_a_process_that_runs_many_commands_has_one_who_listens() -> None:
    script = """
import os, threading, time
from embeddings_store.terminal.endings import obey_endings
obey_endings(130, print)
files = len(os.listdir("/proc/self/fd"))
for _ in range(50):
    obey_endings(130, print)
end = time.monotonic() + 20
while (found := [one.name for one in threading.enumerate()].count("endings")) > 1 and time.monotonic() < end:
    time.sleep(0.01)
print(found, len(os.listdir("/proc/self/fd")) - files)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1 0\n"
