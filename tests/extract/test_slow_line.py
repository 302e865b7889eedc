"""The number of streams follows the line: fewer where they share a slow one, all where each is slow by itself."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from time import monotonic, sleep

import pytest

from extract.bucket.gate import StreamGate
from extract.bucket.line import ENOUGH_BYTES_PER_S, HOLD_S, WINDOW_S, LineMeter, Stream
from extract.bucket.s3 import S3Source
from extract.bucket.source import ObjectInfo
from extract.busy import advise
from extract.errors import BucketError, FetchError

STREAMS = 32
DATA = bytes(range(256)) * 1200
ETAG = md5(DATA, usedforsecurity=False).hexdigest()


class Simulation:
    """Streams that always have something to fetch; rate: bytes per second of one stream, among so many."""

    def __init__(self, rate: Callable[[int], float]) -> None:
        self.line, self.rate, self.now, self.limits = LineMeter(STREAMS, 0.0), rate, 0.0, list[int]()
        self.streams = [Stream(number) for number in range(STREAMS)]
        self.came = 0.0

    def run(self, windows: int) -> None:
        for _ in range(windows):
            self.now += WINDOW_S
            for stream in self.streams:
                stream.received += int(self.rate(len(self.streams)) * WINDOW_S)
                self.came += self.rate(len(self.streams)) * WINDOW_S
            self.line.look(self.streams, self.now)
            for stream in self.streams[self.line.limit :]:
                self.line.leave(stream, self.now, whole=False)
            del self.streams[self.line.limit :]
            self.streams += [Stream(number, since=self.now) for number in range(len(self.streams), self.line.limit)]
            self.limits.append(self.line.limit)


@pytest.mark.parametrize(("mbits", "streams"), [(0.1, 1), (1, 1), (10, 4), (30, 8), (80, 32), (100, 32), (10_000, 32)])
def test_streams_that_share_a_line_become_as_many_as_it_feeds(mbits: float, streams: int) -> None:
    simulated = Simulation(lambda count: mbits * 125_000 / count)
    simulated.run(20)
    assert simulated.line.limit == streams
    assert simulated.limits == sorted(simulated.limits, reverse=True), "it does not swing"
    assert simulated.line.lowered == (STREAMS // streams).bit_length() - 1


def test_streams_that_are_slow_one_by_one_are_all_kept() -> None:
    simulated = Simulation(lambda count: 100_000.0)
    simulated.run(20)
    assert simulated.limits[:2] == [STREAMS // 2, STREAMS]
    assert simulated.line.lowered == 0
    assert simulated.came > 0.9 * 20 * WINDOW_S * STREAMS * 100_000
    simulated.run(int(HOLD_S / WINDOW_S))
    assert simulated.limits.count(STREAMS // 2) == 2, "tried again, once"


def test_one_sick_stream_among_sound_ones_lowers_nothing() -> None:
    line, streams = LineMeter(4, 0.0), [Stream(number) for number in range(4)]
    for window in range(1, 10):
        for stream in streams[1:]:
            stream.received += int(4 * ENOUGH_BYTES_PER_S * WINDOW_S)
        line.look(streams, window * WINDOW_S)
    assert line.limit == 4


def test_objects_that_come_quickly_bring_the_streams_back() -> None:
    simulated = Simulation(lambda count: 125_000 / count)
    simulated.run(10)
    assert simulated.line.limit == 1
    for _ in range(100):
        stream = Stream(0, received=10_000_000, since=simulated.now)
        simulated.now += 1.5
        simulated.line.leave(stream, simulated.now, whole=True)
    assert simulated.line.limit == STREAMS


def test_the_oldest_stream_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, order = StreamGate(1), list[str]()
    with ThreadPoolExecutor(3) as pool, gate.stream() as oldest:
        waiting = [pool.submit(_pass_through, gate, order, "young")]
        sleep(0.05)
        oldest.step_aside()  # comes back at once: it is older than what waits
        order.append("old")
    for one in waiting:
        one.result()
    assert order == ["old", "young"]


def _pass_through(gate: StreamGate, order: list[str], name: str) -> None:
    with gate.stream():
        order.append(name)


def test_a_slow_line_is_not_told_to_take_more_streams() -> None:
    assert "more --streams" in advise("fetch", "cpu", 5.0, slow_line=False)
    advice = advise("fetch", "cpu", 5.0, slow_line=True)
    assert "the line to the bucket is slow" in advice
    assert "more streams do not help" in advice


class SlowServer(ThreadingHTTPServer):
    """Serves DATA under every key over a line of ``bytes_per_s`` that all connections share."""

    daemon_threads = True
    request_queue_size = 64
    bytes_per_s = 600_000.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.free_at, self.sent = Lock(), 0.0, 0

    def carry(self, size: int) -> None:
        with self.lock:
            self.free_at = max(self.free_at, monotonic()) + size / self.bytes_per_s
            self.sent += size
            until = self.free_at
        sleep(max(0.0, until - monotonic()))

    def handle_error(self, *_: object) -> None:
        """A stream that steps aside hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: SlowServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.send_header("ETag", f'"{ETAG}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        for place in range(start, len(DATA), 2000):
            self.server.carry(len(DATA[place : place + 2000]))
            self.wfile.write(DATA[place : place + 2000])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, s3_credentials: Callable[[str, str], None]) -> Iterator[SlowServer]:
    s3_credentials("testkey", "verysecret")
    for name, seconds in (("WINDOW_S", 0.2), ("LONGEST_WINDOW_S", 0.8), ("QUICK_S", 0.05)):
        monkeypatch.setattr(f"extract.bucket.line.{name}", seconds)
    server = SlowServer()
    Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_every_object_comes_over_a_slow_line_with_hardly_a_byte_too_many(
    slow: SlowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("extract.bucket.body.PATIENCE_S", 0.5)
    source = S3Source("eye", endpoint_url=f"http://127.0.0.1:{slow.server_address[1]}", streams=8)
    wanted = [ObjectInfo(f"k{number}", len(DATA), ETAG) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert [one.data for one in pool.map(source.fetch, wanted)] == [DATA] * 8
    assert source.counts.slow_lines > 0
    assert source.gate.limit < 8
    assert slow.sent < 1.1 * 8 * len(DATA)
    said = capsys.readouterr().err
    assert said.count("the line is slow") == 1
    assert "nothing is broken" in said


def test_a_line_that_stands_still_is_called_slow(slow: SlowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.bucket.body.STALLED_BYTES_PER_S", 1e9)
    monkeypatch.setattr("extract.bucket.body.PATIENCE_S", 0.02)
    source = S3Source("eye", endpoint_url=f"http://127.0.0.1:{slow.server_address[1]}")
    with pytest.raises(FetchError, match="the line is too slow: hardly a byte came"):
        source.fetch(ObjectInfo("k", len(DATA), ETAG))


class Silent(Handler):
    """Promises every byte, and sends none."""

    def do_GET(self) -> None:
        if "list-type" in self.path:
            entries = "".join(f"<Contents><Key>k{n}</Key><Size>{len(DATA)}</Size></Contents>" for n in range(3))
            page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.send_header("ETag", f'"{ETAG}"')
        self.end_headers()
        self.close_connection = True
        self.connection.settimeout(5)
        self.connection.recv(1)


@pytest.mark.parametrize("others_come", [True, False])
def test_a_line_that_gives_nothing_to_anybody_is_no_fault_of_one_object(
    slow: SlowServer, monkeypatch: pytest.MonkeyPatch, others_come: bool
) -> None:
    monkeypatch.setattr("extract.bucket.s3.READ_TIMEOUT_S", 0.1)
    usual = Handler.do_GET

    def answer(handler: Handler) -> None:
        (usual if others_come and "/k0" not in handler.path and "list-type" not in handler.path else Silent.do_GET)(
            handler
        )

    monkeypatch.setattr(Handler, "do_GET", answer)
    source = S3Source("eye", endpoint_url=f"http://127.0.0.1:{slow.server_address[1]}")
    kind, words = (FetchError, "hardly a byte came") if others_come else (BucketError, "nor does anything else come")
    with pytest.raises(kind, match=f"too slow: .*{words}"):
        source.fetch(ObjectInfo("k0", len(DATA), ETAG))
