"""503 SlowDown: fewer streams, Retry-After obeyed, nothing lost; then slowly as many streams as before."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Event, Lock, Thread
from time import monotonic

import pytest

from extract.bucket.gate import LONGEST_PAUSE_S, StreamGate
from extract.bucket.s3 import S3Source
from extract.bucket.source import ObjectInfo
from extract.errors import FetchError

STREAMS = 8
REFUSAL = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class BusyServer(ThreadingHTTPServer):
    """Serves b"voxels" under every key, but refuses while more than ``bearable`` requests are in hand."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bearable, self.retry_after, self.refusals_left = 100, "", 0
        self.in_hand = self.refused = self.most = 0
        self.asked_at: list[float] = []
        self.lock = Lock()
        self.answer_slowly = Event()

    def bears(self) -> bool:
        with self.lock:
            self.asked_at.append(monotonic())
            self.in_hand += 1
            self.most = max(self.most, self.in_hand)
            too_many = self.in_hand > self.bearable or self.refusals_left > 0
            self.refusals_left -= too_many
            self.refused += too_many
            return not too_many


class Handler(BaseHTTPRequestHandler):
    server: BusyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        good = self.server.bears()
        if good:
            self.server.answer_slowly.wait(0.01)
        with self.server.lock:
            self.server.in_hand -= 1
        body = b"voxels" if good else REFUSAL
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", str(len(body)))
        if good:
            self.send_header("ETag", '"etag"')
        elif self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy(
    monkeypatch: pytest.MonkeyPatch, s3_credentials: Callable[[str, str], None]
) -> Iterator[tuple[BusyServer, S3Source]]:
    """A server, and a source whose botocore retries at once."""
    s3_credentials("testkey", "verysecret")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    server = BusyServer()
    Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    yield server, S3Source("eye", endpoint_url=f"http://127.0.0.1:{server.server_address[1]}", streams=STREAMS)
    server.shutdown()
    server.server_close()


def fetch_many(source: S3Source, objects: int) -> list[bytes]:
    wanted = [ObjectInfo(f"k{number}", 6, "etag") for number in range(objects)]
    with ThreadPoolExecutor(STREAMS) as pool:
        return [fetched.data for fetched in pool.map(source.fetch, wanted)]


def test_a_busy_server_loses_nothing_and_is_asked_by_fewer(
    busy: tuple[BusyServer, S3Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, source = busy
    server.bearable, limits = 2, list[int]()
    monkeypatch.setattr("extract.bucket.gate.ONE_REFUSAL_S", 0.0)
    slow_down = source.gate.slow_down
    monkeypatch.setattr(
        source.gate, "slow_down", lambda pause_s: (slow_down(pause_s), limits.append(source.gate.limit))
    )
    assert fetch_many(source, 40) == [b"voxels"] * 40
    assert server.refused > 0
    assert len(limits) == server.refused
    assert min(limits) <= STREAMS // 2
    assert source.counts.retries == server.refused
    assert source.counts.get_requests == 40 + server.refused


def test_retry_after_is_obeyed_by_every_stream(busy: tuple[BusyServer, S3Source]) -> None:
    server, source = busy
    server.retry_after, server.refusals_left = "1", 1
    source.fetch(ObjectInfo("k", 6, "etag"))
    first, second = server.asked_at
    assert second - first > 0.9
    assert source.gate.limit == STREAMS // 2


def test_more_refusals_than_botocore_bears_are_no_error(busy: tuple[BusyServer, S3Source]) -> None:
    server, source = busy
    server.refusals_left = 12
    assert source.fetch(ObjectInfo("k", 6, "etag")).data == b"voxels"
    assert (source.counts.retries, source.counts.get_requests) == (12, 13)


def test_a_server_that_always_refuses_is_an_error_of_the_volume(busy: tuple[BusyServer, S3Source]) -> None:
    server, source = busy
    server.refusals_left = 10**6
    with pytest.raises(FetchError, match="SlowDown"):
        source.fetch(ObjectInfo("k", 6, "etag"))
    server.refusals_left = 0
    assert source.fetch(ObjectInfo("k", 6, "etag")).data == b"voxels"


def test_streams_never_exceed_what_was_asked_for(busy: tuple[BusyServer, S3Source]) -> None:
    server, source = busy
    fetch_many(source, 40)
    assert server.refused == 0
    assert 1 < server.most <= STREAMS
    assert source.gate.limit == STREAMS


class TestGate:
    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("extract.bucket.gate.monotonic", lambda: self.now)
        monkeypatch.setattr("extract.bucket.gate.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def test_refusals_at_once_halve_once(self) -> None:
        gate = StreamGate(32)
        for _ in range(5):
            gate.slow_down(0.0)
        assert gate.limit == 16
        self.now = 1.0
        gate.slow_down(0.0)
        assert gate.limit == 8

    def test_one_stream_is_always_left(self) -> None:
        gate = StreamGate(4)
        for self.now in (0.0, 2.0, 4.0, 6.0):
            gate.slow_down(0.0)
        assert gate.limit == 1
        with gate.stream():
            pass

    def test_streams_grow_by_one_a_round_and_not_beyond(self) -> None:
        gate = StreamGate(8)
        gate.slow_down(0.0)
        needed = next(number for number in count(1) if gate.succeed() or gate.limit == 5)
        assert needed == 5
        for _ in range(100):
            gate.succeed()
        assert gate.limit == 8

    @pytest.mark.parametrize(("asked_s", "waited_s"), [(0.0, 0.0), (7.0, 7.0), (10_000.0, LONGEST_PAUSE_S)])
    def test_a_pause_is_as_long_as_asked_but_bounded(self, asked_s: float, waited_s: float) -> None:
        gate = StreamGate(8)
        gate.slow_down(asked_s)
        with gate.stream():
            assert self.now == waited_s
