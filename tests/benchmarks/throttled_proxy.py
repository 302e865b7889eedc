"""A TCP proxy on loopback that behaves like a far bucket: every request waits, every connection has a speed."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from time import monotonic, sleep
from urllib.parse import urlsplit

PIECE_BYTES = 1 << 18
LARGEST_REQUEST_BYTES = 1 << 16
SHORTEST_SLEEP_S = 0.001
"""A shorter one takes longer than it says; the debt is kept for the next piece."""
SHARED_PIECE_S = 0.005
"""How long a piece takes on a line that all share, so that no connection waits long for its turn."""
CREDIT_S = 0.05
"""How far an answer may catch up after its proxy, not its line, was late; an idle line earns nothing."""


@dataclass
class Traffic:
    """What went through so far. Thread-safe by the proxy's lock."""

    connections: int = 0
    requests: int = 0
    bytes: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, *, connections: int = 0, requests: int = 0, size_bytes: int = 0) -> None:
        with self.lock:
            self.connections += connections
            self.requests += requests
            self.bytes += size_bytes


@contextmanager
def throttled_proxy(
    upstream: str,
    *,
    latency_s: float = 0.0,
    bytes_per_s: float = float("inf"),
    shared_bytes_per_s: float = float("inf"),
) -> Iterator[tuple[str, Traffic]]:
    """Pass connections on to ``upstream`` (http://host:port); give the proxy's endpoint, and what went through it.

    latency_s: before each piece of a request goes on, and before a new connection is used: a round trip. bytes_per_s:
    of the answers, for each connection; shared_bytes_per_s: for all together, in turn.
    Nothing is parsed: what is signed stays signed, and connections stay open.
    """
    address = urlsplit(upstream)
    traffic, threads = Traffic(), list[Thread]()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        line = _Line(
            (str(address.hostname), int(address.port or 80)), latency_s, bytes_per_s, traffic, shared_bytes_per_s
        )
        accepting = Thread(target=_accept, args=(server, line, threads), daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", traffic
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            line.hang_up()
            for thread in threads:
                thread.join()


@dataclass
class _Line:
    upstream: tuple[str, int]
    latency_s: float
    bytes_per_s: float
    traffic: Traffic
    shared_bytes_per_s: float = float("inf")
    shared_free_at: float = 0.0
    open: set[socket.socket] = field(default_factory=set)

    def connect(self, client: socket.socket) -> socket.socket:
        server = socket.create_connection(self.upstream)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.traffic.lock:
            self.open |= {client, server}
        return server

    @property
    def piece_bytes(self) -> int:
        return int(min(PIECE_BYTES, max(512.0, self.shared_bytes_per_s * SHARED_PIECE_S)))

    def take_turn(self, size: int) -> None:
        """Wait until the line that all share has carried what came before, and this piece."""
        with self.traffic.lock:
            self.shared_free_at = max(self.shared_free_at, monotonic() - CREDIT_S) + size / self.shared_bytes_per_s
            until = self.shared_free_at
        if (wait_s := until - monotonic()) > SHORTEST_SLEEP_S:
            sleep(wait_s)

    def hang_up(self, *ends: socket.socket) -> None:
        """Shut these ends, or all; their threads then end by themselves."""
        with self.traffic.lock:
            chosen = list(ends or self.open)
        for end in chosen:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def forget(self, *ends: socket.socket) -> None:
        with self.traffic.lock:
            self.open -= set(ends)
        for end in ends:
            end.close()


def _accept(server: socket.socket, line: _Line, threads: list[Thread]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        thread = Thread(target=_serve, args=(client, line), daemon=True)
        threads.append(thread)
        thread.start()


@dataclass
class _Pace:
    """When the line of one connection has carried what it was given, and when the last request was passed on."""

    free_at: float = 0.0
    asked_at: float = 0.0


def _serve(client: socket.socket, line: _Line) -> None:
    """Carry one connection until either end closes it."""
    pace = _Pace()
    line.traffic.add(connections=1)
    sleep(line.latency_s)
    try:
        server = line.connect(client)
    except OSError:
        client.close()
        return
    back = Thread(target=_carry_answers, args=(server, client, line, pace), daemon=True)
    back.start()
    with suppress(OSError):
        while request := client.recv(LARGEST_REQUEST_BYTES):
            line.traffic.add(requests=1)
            sleep(line.latency_s)
            pace.asked_at = monotonic()
            server.sendall(request)
    line.hang_up(client, server)
    back.join()
    line.forget(client, server)


def _carry_answers(server: socket.socket, client: socket.socket, line: _Line, pace: _Pace) -> None:
    piece = bytearray(line.piece_bytes)
    with suppress(OSError):
        while size := server.recv_into(piece):
            pace.free_at = max(pace.free_at, pace.asked_at, monotonic() - CREDIT_S) + size / line.bytes_per_s
            line.take_turn(size)
            client.sendall(memoryview(piece)[:size])
            line.traffic.add(size_bytes=size)
            if (wait_s := pace.free_at - monotonic()) > SHORTEST_SLEEP_S:
                sleep(wait_s)
    line.hang_up(client, server)
