"""One process a GPU, started by the command itself: the first talks, the others are heard where one of them fails."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

from embeddings_store.terminal.console import INTERRUPTED, say
from extract.device.here import VISIBLE_GPUS, Wanted, find_devices
from extract.device.select import resolve
from extract.rank import find_launched
from extract.stop import SHELL_OFFSET, StopRequest, exit_code_of, stop_on_signals

COMMAND = (
    sys.executable, "-P", "-c", "import sys; sys.argv[0] = 'finetune'; from finetune.cli import main; main()",
)  # fmt: skip
PAUSE_S = 0.2
GRACE_S = 10.0
DONE_WITH_ERRORS = 3
STOPPED = (exit_code_of("SIGTERM"), INTERRUPTED)
"""How a process ends that was asked to: with its state saved, or before it had begun."""
SPEECHLESS = (0, INTERRUPTED, -signal.SIGTERM, -signal.SIGKILL)
"""How the first process ends where it is not the one that knows why."""
PASSED_ON = "passed on to each process, which saves its state after its step; a second signal ends this one at once"
LAST_BYTES = 4_000
"""Of what a process that failed had to say."""


def gpus_to_start(device: str, gpus: int | tuple[int, ...] | None) -> tuple[str, ...]:
    """Give the GPUs for which processes are to be started, as CUDA names them; none where this one does the work.

    Raises: UsageError where --gpus contradicts the device or a launcher; DeviceError.
    """
    launched = find_launched(os.environ) is not None
    if gpus is None and (launched or resolve(device) != "cuda"):
        return ()
    found = find_devices(device, Wanted(gpus), 0 if launched else None)
    names = tuple(one[VISIBLE_GPUS] for one in found.surroundings.values())
    return names if len(names) > 1 or gpus is not None else ()


def start_processes(gpus: Sequence[str], arguments: Sequence[str]) -> int:
    """Run the same command line in a process for each GPU, as torchrun would; give the exit code of the run.

    Where one fails, the others are ended. SIGINT and SIGTERM are passed on, once, and the step at hand is waited
    for: the processes are of a group of their own, so that a terminal's Ctrl-C does not reach them as well.
    """
    say(f"GPUs: {len(gpus)}, a process for each")
    port, own = _free_port(), without_option(arguments, "--gpus")
    with tempfile.TemporaryFile() as quiet:
        started = [
            subprocess.Popen(  # noqa: S603 - our own interpreter and module
                (*COMMAND, *own), env={**os.environ, **_surroundings(rank, gpus, port)},
                stdout=None if rank == 0 else subprocess.DEVNULL, stderr=None if rank == 0 else quiet, process_group=0,
            )
            for rank in range(len(gpus))
        ]  # fmt: skip
        with stop_on_signals(words=PASSED_ON) as request:
            try:
                code = _wait(started, request)
            except KeyboardInterrupt:  # of a terminal that is gone
                _end(started, signal.SIGTERM)
                raise
        if code and started[0].returncode in SPEECHLESS:
            say(_last_words(quiet))
    return code


def without_option(arguments: Sequence[str], option: str) -> list[str]:
    """Leave an option and its value out of a command line."""
    kept, skip = [], False
    for word in arguments:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return kept


def _surroundings(rank: int, gpus: Sequence[str], port: int) -> Mapping[str, str]:
    size = str(len(gpus))
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
        "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        VISIBLE_GPUS: ",".join(gpus),
    }  # fmt: skip


def _wait(started: Sequence[subprocess.Popen[bytes]], request: StopRequest) -> int:
    """Wait until all are done, or one has failed; give its exit code, or that of the first process.

    request: of an end, which each process is asked for, too, and is then given its time for.
    """
    request.tell(*(one.terminate for one in started))
    while None in (codes := [one.poll() for one in started]):
        sound = (None, 0, DONE_WITH_ERRORS, *(STOPPED if request.name else ()))
        if any(code not in sound for code in codes):
            break
        time.sleep(PAUSE_S)
    _end(started, signal.SIGTERM)
    failed = next((code for code in codes if code), 0)
    if request.name is not None and failed in STOPPED:
        return exit_code_of(request.name)
    return SHELL_OFFSET - failed if failed < 0 else failed


def _end(started: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Ask those that still run to end, and end them where they do not."""
    living = [one for one in started if one.poll() is None]
    for one in living:
        one.send_signal(number)
    deadline = time.monotonic() + GRACE_S
    for one in living:
        try:
            one.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def _last_words(quiet: IO[bytes]) -> str:
    quiet.seek(max(0, quiet.seek(0, os.SEEK_END) - LAST_BYTES))
    return quiet.read().decode(errors="replace").strip() or "a process ended without a word; is there enough memory?"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
