"""An HTTP proxy on loopback between an S3 client and a real S3 server, which spoils answers to GET as it is seeded."""

import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Lock, Thread
from typing import Final
from urllib.parse import unquote, urlsplit

FAULTS: Final = (
    *("cut", "stall", "reset", "500", "503", "429", "length", "flip", "trickle"),
    *("page", "no-etag", "weak-etag", "no-ranges"),
)
LARGEST_BODY_BYTES = 64_000_000
UPSTREAM_TIMEOUT_S = 20.0
IDLE_TIMEOUT_S = 10.0
HELD_S = 8.0  # a stall or a trickle goes on until the client hangs up, but no longer
TRICKLE_PAUSE_S = 0.02
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST

ERRORS = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests"}
PAGE = b"<!DOCTYPE html><html><body><p>Please sign in<br></body></html>"


@dataclass
class FaultPlan:
    """Which request ends how: a key's nth answer depends on the seed alone, not on the order of threads.

    permanent: keys (below the bucket) that always get the fault named. listings: faults of the first answers to LIST,
    one after the other; later ones are sound. refuse_after: so many GETs of objects are answered; then all are refused
    with 403 and the code and the message of ``refusal``.
    """

    seed: int
    rate: float
    permanent: Mapping[str, str] = field(default_factory=dict)
    listings: Sequence[str] = ()
    refuse_after: int | None = None
    refusal: tuple[str, str] = ("AccessDenied", "as planned")
    list_requests: int = 0
    requests: int = 0
    body_bytes: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def decide(self, key: str) -> tuple[str, Random]:
        """Count a request; give its fault, or "none", and the chance to shape it with."""
        with self._lock:
            self.requests += 1
            self._asked[key] += 1
            chance = Random(f"{self.seed} {key} {self._asked[key]}")
            random_fault = chance.choice(FAULTS) if chance.random() < self.rate else "none"
            fault = self.permanent.get(key, random_fault)
            if self.refuse_after is not None and self.requests > self.refuse_after:
                fault = "403"
            self.injected[fault] += 1
        return fault, chance

    def decide_listing(self) -> tuple[str, Random]:
        """Do the same for a page of a listing."""
        with self._lock:
            self.list_requests += 1
            spoiled = self.list_requests <= len(self.listings)
            fault = self.listings[self.list_requests - 1] if spoiled else "none"
            return fault, Random(f"{self.seed} page {self.list_requests}")

    def sent(self, size: int) -> None:
        """Count bytes of bodies."""
        with self._lock:
            self.body_bytes += size


@contextmanager
def fault_proxy(upstream: str, plan: FaultPlan) -> Iterator[str]:
    """Pass requests on to ``upstream``, whose answers to GETs of objects are spoiled; give the proxy's endpoint.

    The Host header is passed on as it is: SigV4 signs it.
    """
    server = _ProxyServer(upstream, plan)
    thread = Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _ProxyServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, upstream: str, plan: FaultPlan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.plan = urlsplit(upstream).netloc, plan

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without the polite FIN of the standard library, which would come before a reset."""
        self.close_request(request)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up on a fault is what the faults are for."""


class _Handler(BaseHTTPRequestHandler):
    server: _ProxyServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer, data = self.ask_upstream(body)
        _, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if self.command != "GET" or answer.status >= 300:
            self.send_whole(answer, data)
            return
        fault, chance = self.server.plan.decide(key) if key else self.server.plan.decide_listing()
        if fault == "403":
            self.refuse(403, *self.server.plan.refusal)
        elif fault in ERRORS:
            self.refuse(int(fault), ERRORS[fault])
        elif fault == "none":
            self.send_whole(answer, data)
        else:
            SPOILERS[fault](self, answer, data, chance)

    do_HEAD = do_GET  # noqa: N815 - http.server's own naming

    def ask_upstream(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.server.upstream, timeout=UPSTREAM_TIMEOUT_S)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        data = answer.read(LARGEST_BODY_BYTES)
        connection.close()
        return answer, data

    def start(self, answer: HTTPResponse, length: int, *, status: int = 0, **instead: str) -> None:
        """Send the head, claiming ``length`` bytes. instead: headers ("" for none), "_" in their names for "-"."""
        self.send_response_only(status or answer.status)
        other = {name.replace("_", "-"): value for name, value in instead.items()}
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection", *other}:
                self.send_header(name, value)
        for name, value in other.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_some(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.plan.sent(len(data))

    def send_whole(self, answer: HTTPResponse, data: bytes) -> None:
        claimed = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.start(answer, int(claimed or len(data)))
        self.wfile.write(data) if self.command == "HEAD" else self.send_some(data)

    def refuse(self, status: int, code: str, message: str = "as planned") -> None:
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(text)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(text)

    def cut(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        self.start(answer, len(data))
        self.send_some(data[: chance.randrange(len(data))])
        self.close_connection = True

    def stall(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        if chance.random() < 0.5:
            self.start(answer, len(data))
            self.send_some(data[: chance.randrange(len(data))])
        self.hold_until_hung_up(HELD_S)

    def trickle(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        self.start(answer, len(data))
        until = time.monotonic() + HELD_S
        fast = chance.randrange(len(data))
        self.send_some(data[:fast])
        for byte in data[fast:]:
            if time.monotonic() > until:
                break
            self.send_some(bytes([byte]))
            time.sleep(TRICKLE_PAUSE_S)
        self.close_connection = True

    def send_nothing(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        """Cut before the first byte, which a client without a check of the length takes for an empty answer."""
        self.start(answer, len(data))
        self.close_connection = True

    def reset(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        if chance.random() < 0.5:
            self.start(answer, len(data))
            self.send_some(data[: chance.randrange(len(data))])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close_connection = True

    def claim_wrong_length(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        wrong = chance.choice([chance.randrange(len(data)), len(data) + chance.randrange(1, 1000)])
        self.start(answer, wrong)
        self.send_some(data[:wrong])
        self.close_connection = True

    def flip(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        place = chance.randrange(len(data))
        self.start(answer, len(data))
        self.send_some(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])

    def show_page(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        """Answer with a page for people, as a proxy does that wants a login; status 200."""
        self.start(answer, len(PAGE), status=200, etag="", content_type="text/html", content_range="")
        self.wfile.write(PAGE)

    def send_without_etag(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        self.start(answer, len(data), etag="")
        self.send_some(data)

    def send_weak_etag(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        self.start(answer, len(data), etag=f"W/{answer.getheader('ETag')}")
        self.send_some(data)

    def ignore_range(self, answer: HTTPResponse, data: bytes, chance: Random) -> None:
        """Answer to a range with what came of it, as if it were the whole object."""
        self.start(answer, len(data), status=200, content_range="")
        self.send_some(data)

    def hold_until_hung_up(self, seconds: float) -> None:
        self.close_connection = True
        self.connection.settimeout(seconds)
        try:
            self.connection.recv(1)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


SPOILERS: Final = {
    "cut": _Handler.cut,
    "stall": _Handler.stall,
    "reset": _Handler.reset,
    "length": _Handler.claim_wrong_length,
    "flip": _Handler.flip,
    "trickle": _Handler.trickle,
    "nothing": _Handler.send_nothing,
    "page": _Handler.show_page,
    "no-etag": _Handler.send_without_etag,
    "weak-etag": _Handler.send_weak_etag,
    "no-ranges": _Handler.ignore_range,
}
