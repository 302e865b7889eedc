"""The slow line that benchmarks run over: what goes through is unchanged, late, and no faster than it says."""

import http.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic

import pytest
from throttled_proxy import throttled_proxy

BODY = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_bodies_come_unchanged_over_one_connection_and_none_too_early(upstream: str) -> None:
    latency_s, bytes_per_s, count = 0.05, 10e6, 3
    with throttled_proxy(upstream, latency_s=latency_s, bytes_per_s=bytes_per_s) as (endpoint, traffic):
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
        start = monotonic()
        for _ in range(count):
            connection.request("GET", "/")
            assert connection.getresponse().read() == BODY
        elapsed = monotonic() - start
        connection.close()
    assert elapsed >= 0.9 * count * (latency_s + len(BODY) / bytes_per_s)
    assert (traffic.connections, traffic.requests) == (1, count)
    assert traffic.bytes > count * len(BODY)


def test_an_upstream_that_is_gone_hangs_up(upstream: str) -> None:
    with throttled_proxy("http://127.0.0.1:1") as (endpoint, _):
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            connection.request("GET", "/")
            connection.getresponse()
        connection.close()
