"""A bucket behind the S3 protocol, on a local server."""

import socket
from collections.abc import Callable, Iterator, Mapping
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from threading import Thread
from time import sleep
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from source_contract import RangeContract

from embeddings_store.errors import OctProbeError
from extract.bucket.open import open_source
from extract.bucket.s3 import BODY_ATTEMPTS, S3Source
from extract.bucket.source import ObjectInfo, RangeRefused, RangeSource, Source, TransferCounts
from extract.errors import BucketError, FetchError

SECRET = "verysecretverysecret"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def writer(moto: str) -> Any:
    """A client of the tests' own, to put and delete objects."""
    keys = {"aws_access_key_id": "other", "aws_secret_access_key": "other"}
    return boto3.client("s3", endpoint_url=moto, region_name="us-east-1", **keys)


@pytest.fixture(autouse=True)
def _credentials(s3_credentials: Callable[[str, str], None]) -> None:
    s3_credentials("testkey", SECRET)


class TestS3(RangeContract):
    @pytest.fixture(autouse=True)
    def _bucket(self, moto: str, writer: Any, request: pytest.FixtureRequest) -> None:
        self.endpoint = moto
        self.bucket = f"bucket-{md5(request.node.name.encode(), usedforsecurity=False).hexdigest()}"
        self.writer = writer
        self.writer.create_bucket(Bucket=self.bucket)
        self.writer.put_object(Bucket=self.bucket, Key="outside", Body=b"private")

    def open_with(self, objects: Mapping[str, bytes]) -> RangeSource:
        for key, data in objects.items():
            self.writer.put_object(Bucket=self.bucket, Key=f"some/prefix/{key}", Body=data)
        return S3Source(self.bucket, "some/prefix", self.endpoint)

    def replace(self, source: Source, key: str, data: bytes) -> None:
        self.writer.put_object(Bucket=self.bucket, Key=f"some/prefix/{key}", Body=data)

    def remove(self, source: Source, key: str) -> None:
        self.writer.delete_object(Bucket=self.bucket, Key=f"some/prefix/{key}")

    @pytest.mark.parametrize("refused", [{"IfNoneMatch": "*"}, {"ChecksumAlgorithm": "SHA256"}])
    def test_the_guard_sees_what_b2_would_refuse(self, refused: Any) -> None:
        source = S3Source(self.bucket, "some/prefix", self.endpoint)
        with pytest.raises(AssertionError):
            source.client.put_object(Bucket=self.bucket, Key="some/prefix/a", Body=b"1", **refused)

    def test_more_than_a_thousand_keys(self) -> None:
        source = self.open_with({})
        for number in range(1001):  # put behind the server's back: 1,001 requests would take seconds
            s3_backends["123456789012"]["aws"].put_object(self.bucket, f"some/prefix/k{number:04d}", b"1")
        assert len({info.key for info in source.list_objects()}) == 1001
        assert source.counts.list_requests == 2


class TestRun:
    def test_a_missing_bucket(self, moto: str) -> None:
        source = open_source("nowhere", endpoint_url=moto)
        for call in (lambda: list(source.list_objects()), lambda: source.read_optional("x"), lambda: source.fetch(X)):
            with pytest.raises(BucketError, match=r"s3://nowhere/ at http.*there is no such bucket"):
                call()

    def test_an_endpoint_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *_: 0.0, raising=False)
        monkeypatch.setattr("time.sleep", lambda _: None)
        monkeypatch.setattr("extract.bucket.s3.sleep", lambda _: None)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        source = open_source("eye", endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(BucketError, match="cannot be reached"):
            source.fetch(X)

    def test_no_credentials(self, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(BucketError, match="no credentials found; set AWS_ACCESS_KEY_ID"):
            list(open_source("eye", endpoint_url=moto).list_objects())

    def test_a_profile_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(BucketError, match="AWS_PROFILE names a profile"):
            open_source("eye", endpoint_url="http://127.0.0.1:1")

    @pytest.mark.parametrize("endpoint", ["http://", "http://bad host", "https://key:secret@host"])
    def test_a_malformed_endpoint(self, endpoint: str) -> None:
        with pytest.raises(BucketError, match="endpoint") as caught:
            open_source("eye", endpoint_url=endpoint)
        assert "secret" not in str(caught.value)

    def test_backblaze_tells_its_region(self) -> None:
        source = S3Source("eye", endpoint_url="s3.us-west-004.backblazeb2.com", streams=48)
        assert source.client.meta.region_name == "us-west-004"
        assert source.client.meta.endpoint_url == "https://s3.us-west-004.backblazeb2.com"
        config: Config = source.client.meta.config
        assert config.max_pool_connections == 48
        assert config.signature_version == "s3v4"
        assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"


X = ObjectInfo("x", -1, "")
CONTENT = bytes(range(256)) * 4096
ETAG = md5(CONTENT, usedforsecurity=False).hexdigest()
PROMISES = {"promises-more": 5, "promises-less": -5}
TRICKLE_BYTES = 300
KEYED = (
    {"x-amz-server-side-encryption": "aws:kms"},
    {"x-amz-server-side-encryption": "aws:kms:dsse"},
    {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
)
"""Encrypted so that the ETag is no md5: by a key of the user's, or one that came with the request."""


class Faults:
    """What the small server below does wrong, request by request; then it behaves."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.etag, self.headers = ETAG, dict[str, str]()


class FaultyServer(ThreadingHTTPServer):
    """Serves CONTENT under every key, with the faults that a test asks for."""

    daemon_threads = True
    faults = Faults()
    connections = 0

    def get_request(self) -> Any:
        found = super().get_request()
        self.connections += 1
        return found

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up on a changed object is no fault of the server."""


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        faults = self.server.faults
        faults.requests.append(dict(self.headers))
        answer = faults.script.pop(0) if faults.script else "whole"
        self.close_connection = answer == "hang-up"
        if answer == "hang-up":
            return
        if answer[0].isdigit():
            self.refuse(*answer.split())
        else:
            self.send(answer)

    def refuse(self, status: str, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send(self, answer: str) -> None:
        asked = "" if answer == "ignores-range" else self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first or 0), min(int(last or len(CONTENT)) + 1, len(CONTENT))
        start, stop = (start - 1, stop - 1) if answer == "shifted" else (start, stop)
        faults = self.server.faults
        etag = "f" * 32 if answer == "changed" else faults.etag
        body = CONTENT[start:stop] if answer != "flipped" else b"\x01" + CONTENT[start + 1 : stop]
        if start >= len(CONTENT):
            self.refuse("416", "InvalidRange")
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body) + PROMISES.get(answer, 0)))
        self.send_header("ETag", f'"{etag}"')
        for name, value in faults.headers.items():
            self.send_header(name, value)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(CONTENT)}")
        self.end_headers()
        if answer == "trickle":
            for place in range(TRICKLE_BYTES):  # far more seconds than the source may wait
                self.wfile.write(body[place : place + 1])
                sleep(0.01)
        self.close_connection = answer in {"cut", "ignores-range", "trickle", *PROMISES}
        half = answer in {"cut", "ignores-range"}
        self.wfile.write(body[: len(body) // 2] if half else body[:0] if answer == "trickle" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def faulty_server(b2_guard: None) -> Iterator[tuple[FaultyServer, S3Source]]:
    server = FaultyServer(("127.0.0.1", 0), Handler)
    Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testkey")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        source = S3Source("eye", endpoint_url=f"http://127.0.0.1:{server.server_address[1]}")
        yield server, source
    server.shutdown()
    server.server_close()


@pytest.fixture
def faulty(faulty_server: tuple[FaultyServer, S3Source]) -> tuple[Faults, S3Source]:
    server, source = faulty_server
    server.faults, source.counts = Faults(), TransferCounts()
    return server.faults, source


class TestFaults:
    def test_a_broken_body_goes_on_where_it_broke(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["cut", "cut"]
        assert source.fetch(X).data == CONTENT
        ranges = [request.get("Range") for request in faults.requests]
        assert ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]
        assert [request.get("If-Match") for request in faults.requests] == [None, f'"{ETAG}"', f'"{ETAG}"']
        assert (source.counts.get_requests, source.counts.retries, source.counts.bytes) == (3, 2, len(CONTENT))

    def test_a_connection_is_used_again(self, faulty_server: tuple[FaultyServer, S3Source]) -> None:
        server, source = faulty_server
        server.faults = Faults()
        source.fetch(X)
        before = server.connections
        for start in range(0, 20_000, 1000):
            source.fetch_range(X, start, start + 1000)
        source.fetch(X)
        assert server.connections == before

    def test_a_broken_range_goes_on_where_it_broke(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["cut", "hang-up", "cut"]
        found = source.fetch_range(ObjectInfo("x", len(CONTENT), ETAG), 1000, 9000)
        assert found.data == CONTENT[1000:9000]
        ranges = [request["Range"] for request in faults.requests]
        assert ranges == ["bytes=1000-8999", "bytes=5000-8999", "bytes=5000-8999", "bytes=7000-8999"]
        assert {request["If-Match"] for request in faults.requests} == {f'"{ETAG}"'}
        assert (source.counts.retries, source.counts.bytes) == (3, 8000)

    @pytest.mark.parametrize("script", [["promises-more"], ["promises-less"], ["shifted"], ["503 SlowDown"]])
    def test_a_spoiled_range_is_asked_again(self, faulty: tuple[Faults, S3Source], script: list[str]) -> None:
        faults, source = faulty
        faults.script = script
        assert source.fetch_range(X, 1000, 9000).data == CONTENT[1000:9000]
        assert (source.counts.get_requests, source.counts.bytes) == (2, 8000)

    @pytest.mark.parametrize("script", [["changed"], ["412 PreconditionFailed"], ["cut", "changed"]])
    def test_a_range_of_an_object_that_changed(self, faulty: tuple[Faults, S3Source], script: list[str]) -> None:
        faults, source = faulty
        faults.script = script
        with pytest.raises(FetchError, match="changed after it was listed"):
            source.fetch_range(ObjectInfo("x", len(CONTENT), ETAG), 1000, 9000)

    @pytest.mark.parametrize("script", [["ignores-range"], ["cut", "ignores-range"], ["416 InvalidRange"]])
    def test_a_server_that_gives_no_ranges_is_not_misread(
        self, faulty: tuple[Faults, S3Source], script: list[str]
    ) -> None:
        faults, source = faulty
        faults.script = script
        with pytest.raises(RangeRefused):
            source.fetch_range(X, 0, 9000)
        assert source.fetch(X).data == CONTENT

    def test_a_body_that_always_breaks_is_given_up(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["cut"] * 20
        with pytest.raises(FetchError, match=f"broke off {BODY_ATTEMPTS} times"):
            source.fetch(X)
        assert source.counts.get_requests == BODY_ATTEMPTS

    @pytest.mark.parametrize("script", [["changed"], ["cut", "changed"], ["cut", "412 PreconditionFailed"]])
    def test_an_object_that_changes_on_the_way(self, faulty: tuple[Faults, S3Source], script: list[str]) -> None:
        faults, source = faulty
        faults.script = script
        with pytest.raises(FetchError, match="changed after it was listed"):
            source.fetch(ObjectInfo("x", len(CONTENT), ETAG))

    def test_a_resumed_body_from_the_start_is_not_appended(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["cut", "ignores-range"]
        assert source.fetch(X).data == CONTENT
        assert [request.get("Range") for request in faults.requests][2:] == [None], "what came is not kept"

    def test_flipped_bytes_are_seen_by_md5_and_fetched_anew(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["flipped"]
        assert source.fetch(X).data == CONTENT
        assert [request.get("Range") for request in faults.requests] == [None, None]
        assert (source.counts.retries, source.counts.bytes) == (1, len(CONTENT))

    def test_bytes_that_are_always_flipped_are_an_error(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.script = ["flipped"] * 20
        with pytest.raises(FetchError, match=f"do not have the md5 of the object, {BODY_ATTEMPTS} times"):
            source.fetch(X)
        assert source.counts.get_requests == BODY_ATTEMPTS

    def test_a_spent_quota_of_botocore_fails_no_object(
        self, faulty: tuple[Faults, S3Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults, source = faulty
        monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: False)
        monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.0)
        faults.script = ["500 InternalError", "500 InternalError", "hang-up", "503 SlowDown"]
        assert source.fetch(X).data == CONTENT
        assert (source.counts.get_requests, source.counts.retries) == (5, 4)

    @pytest.mark.parametrize("headers", KEYED)
    def test_an_etag_that_is_no_md5_is_not_taken_for_one(
        self, faulty: tuple[Faults, S3Source], headers: dict[str, str]
    ) -> None:
        faults, source = faulty
        faults.etag, faults.headers = "0" * 32, headers
        fetched = source.fetch(ObjectInfo("x", len(CONTENT), "0" * 32))
        assert (fetched.data, fetched.md5.hex(), source.counts.retries) == (CONTENT, ETAG, 0)

    @pytest.mark.parametrize("headers", [{}, {"x-amz-server-side-encryption": "AES256"}])
    def test_under_the_servers_own_keys_it_still_is_one(
        self, faulty: tuple[Faults, S3Source], headers: dict[str, str]
    ) -> None:
        faults, source = faulty
        faults.etag, faults.headers = "0" * 32, headers
        with pytest.raises(FetchError, match="do not have the md5"):
            source.fetch(X)

    def test_parts_are_checked_by_their_length(self, faulty: tuple[Faults, S3Source]) -> None:
        faults, source = faulty
        faults.etag, faults.script = f"{'0' * 32}-3", ["cut", "promises-less"]
        assert source.fetch(X).data == CONTENT

    @pytest.mark.parametrize("wanted", [X, ObjectInfo("x", len(CONTENT), ETAG)])
    @pytest.mark.parametrize("answer", ["promises-more", "promises-less"])
    def test_a_wrong_length_is_asked_again(
        self, faulty: tuple[Faults, S3Source], wanted: ObjectInfo, answer: str
    ) -> None:
        faults, source = faulty
        faults.script = [answer]
        assert source.fetch(wanted).data == CONTENT

    def test_a_trickle_is_not_waited_for(
        self, faulty: tuple[Faults, S3Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults, source = faulty
        monkeypatch.setattr("extract.bucket.body.PATIENCE_S", 0.1)
        faults.script = ["trickle"]
        assert source.fetch(X).data == CONTENT
        resumed_at = int(faults.requests[1]["Range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < resumed_at < TRICKLE_BYTES, "the source did not wait until the server ended"

    def test_a_size_that_differs_from_the_listing(self, faulty: tuple[Faults, S3Source]) -> None:
        with pytest.raises(FetchError, match="changed"):
            faulty[1].fetch(ObjectInfo("x", 17, ""))

    def test_a_body_far_too_slow_is_resumed(
        self, faulty: tuple[Faults, S3Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = chain([0.0], repeat(1e6))
        monkeypatch.setattr("extract.bucket.body.monotonic", lambda: next(clock))
        monkeypatch.setattr("extract.bucket.body.CHUNK_BYTES", len(CONTENT) // 2)
        assert faulty[1].fetch(X).data == CONTENT
        assert faulty[1].counts.retries == 1

    def test_a_server_error_is_retried_and_counted(
        self, faulty: tuple[Faults, S3Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        faults, source = faulty
        faults.script = ["503 SlowDown", "500 InternalError"]
        assert source.fetch(X).data == CONTENT
        assert (source.counts.get_requests, source.counts.retries) == (3, 2)

    @pytest.mark.parametrize(
        ("answer", "kind", "message"),
        [
            ("403 InvalidAccessKeyId", BucketError, "credentials are refused"),
            ("403 SignatureDoesNotMatch", BucketError, "credentials are refused"),
            ("403 ExpiredToken", BucketError, "credentials are refused"),
            ("400 AuthorizationHeaderMalformed", BucketError, "another region"),
            ("404 NoSuchBucket", BucketError, "no such bucket"),
            ("404 NoSuchKey", FetchError, "gone"),
            ("403 AccessDenied", FetchError, "AccessDenied"),
            ("400 SomethingNew", FetchError, "SomethingNew"),
        ],
    )
    def test_what_the_server_refuses(
        self, faulty: tuple[Faults, S3Source], answer: str, kind: type[OctProbeError], message: str
    ) -> None:
        faults, source = faulty
        faults.script = [answer] * 3
        with pytest.raises(kind, match=message) as caught:
            source.fetch(X)
        assert SECRET not in str(caught.value)
        assert "testkey" not in str(caught.value)

    @pytest.mark.parametrize("answer", ["403 InvalidAccessKeyId", "403 AccessDenied", "400 SomethingNew"])
    def test_a_listing_that_is_refused_stops_the_run(self, faulty: tuple[Faults, S3Source], answer: str) -> None:
        faults, source = faulty
        faults.script = [answer] * 3
        with pytest.raises(BucketError, match=r"denied|refused"):
            list(source.list_objects())
