"""A tiny S3 on loopback, one bucket in memory, that fails now and then: with a status, or by hanging up half-way."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

CUT = "cut"
HEADERS = {"ETag": '"x"', "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT"}
BUSY = b"<Error><Code>SlowDown</Code></Error>"


@dataclass
class FailingState:
    """Every ``every``-th request fails: with a status, or, CUT, in the middle of a body."""

    failure: int | str
    every: int
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    lock: Lock = field(default_factory=Lock)

    def fails(self) -> bool:
        with self.lock:
            self.requests += 1
            return self.requests % self.every == 0


class FailingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, state: FailingState) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FailingServer

    def do_PUT(self) -> None:
        size, state = int(self.headers["Content-Length"]), self.server.state
        if not state.fails():
            state.objects[self.path] = self.rfile.read(size)
            self.answer(200)
        elif isinstance(state.failure, int):
            self.rfile.read(size)
            self.answer(state.failure, BUSY)
        else:
            self.rfile.read(size // 2)
            self.close_connection = True

    def do_GET(self) -> None:
        state, body = self.server.state, self.server.state.objects.get(self.path)
        fails = state.fails()
        if fails and isinstance(state.failure, int):
            self.answer(state.failure, BUSY)
        elif body is None:
            self.answer(404)
        else:
            self.answer(200, body, cut=fails)

    def answer(self, status: int, body: bytes = b"", *, cut: bool = False) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else status)
        headers = {"Content-Length": len(body) - first, **HEADERS}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[first : len(body) // 2 if cut else None])
        self.close_connection = cut

    def log_message(self, *_words: object) -> None: ...


@contextmanager
def failing_s3(failure: int | str, every: int) -> Iterator[tuple[str, FailingState]]:
    """Serve; give the endpoint, and what the server knows."""
    server = FailingServer(FailingState(failure, every))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
