"""A bucket behind the S3 protocol: AWS, Backblaze B2, or a server of one's own."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from embeddings_store.errors import StoreError
from embeddings_store.s3_access import S3Access, find_s3
from embeddings_store.schema import ObjectInfo, volume_id
from embeddings_store.terminal.console import say
from extract.bucket.answers import check_answer, tidy_listing
from extract.bucket.body import (
    Body,
    BrokenBodyError,
    SpoiledBodyError,
    StalledBodyError,
    SteppedAsideError,
)
from extract.bucket.etags import clean_etag
from extract.bucket.gate import Place, StreamGate
from extract.bucket.pages import Paging
from extract.bucket.refusals import (
    SLOW_DOWN_STATUS,
    concerns_all,
    explain_bucket,
    explain_object,
    is_beyond_end,
    is_denied,
    is_missing,
    is_passing,
    is_slow_down,
    may_concern_all,
)
from extract.bucket.source import Fetched, FetchedRange, RangeRefused, TransferCounts, Wanted
from extract.bucket.tries import ATTEMPTS, Tries
from extract.bucket.witnesses import Witnesses
from extract.errors import BucketError, FetchError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS_PER_PAGE = 1000  # the most that S3 gives
BODY_ATTEMPTS = ATTEMPTS
PAGE_ATTEMPTS = 6
FIRST_PAUSE_S = 0.25  # after a server's error or a lost connection; twice as long after each further one
SHORTEST_SECRET = 3
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


class S3Source:
    """Objects of one bucket below a prefix; one client, made once, shared by all threads.

    Endpoint, region, credentials and CA are those of the store (see s3_access). Raises: BucketError.
    """

    far = True
    layout: object = None

    def __init__(self, bucket: str, prefix: str = "", endpoint_url: str | None = None, *, streams: int = 32) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.name = f"s3://{bucket}/{self._prefix}"
        self.counts = TransferCounts()
        self.gate = StreamGate(streams, tell=self._tell, lowered=lambda: self.counts.add(slow_lines=1))
        self._witnesses = Witnesses(self._first_page, partial(self._get, resumed=True))
        try:
            access = find_s3(endpoint_url)
        except StoreError as error:
            raise BucketError(f"bucket {self.name}: {error}") from None
        self.endpoint = access.endpoint
        try:
            self.client = _make_client(access, streams)
        except (BotoCoreError, ValueError) as error:
            raise explain_bucket(error, self.name, self.endpoint) from error
        events = self.client.meta.events
        events.register("response-received.s3", partial(check_answer, endpoint=self.client.meta.endpoint_url))
        events.register("response-received.s3.GetObject", self._obey)
        events.register("before-parse.s3.ListObjectsV2", tidy_listing)

    def list_objects(self, folder: str = "") -> Iterator[ObjectInfo]:
        """List everything below the prefix, or a folder there, 1,000 keys a request."""
        paging, go_on = Paging(self.name), {"Prefix": self._prefix + folder}
        while True:
            page = self._list_page(go_on)
            following = paging.next(page)
            yield from self._infos(page)
            if following is None:
                return
            go_on = {"Prefix": self._prefix + folder, **following}

    def _infos(self, page: Any) -> Iterator[ObjectInfo]:
        for entry in page.get("Contents", []):
            key, size, etag = entry["Key"], entry.get("Size", -1), clean_etag(entry.get("ETag", ""))
            if key.startswith(self._prefix):
                yield ObjectInfo(key.removeprefix(self._prefix), size, etag)

    def _list_page(self, go_on: dict[str, str]) -> Any:
        """Ask for one page, and again where it does not come whole."""
        attempt = 1
        while True:
            try:
                return self._ask_for_page(go_on, again=attempt > 1)
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                if attempt == PAGE_ATTEMPTS or not is_passing(error):
                    raise self._bucket_error(error) from error
            sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            attempt += 1

    def _first_page(self) -> Iterator[ObjectInfo]:
        return self._infos(self._ask_for_page({}, again=True))

    def _ask_for_page(self, go_on: dict[str, str], *, again: bool) -> Any:
        """Ask once. botocore compares no length: it takes an answer without any byte for a page without objects."""
        self.counts.add(list_requests=1, retries=again)
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": KEYS_PER_PAGE, **go_on}
        try:
            page: Any = self.client.list_objects_v2(**request)
        except ValueError as error:  # of botocore's parser, which reads numbers as they come
            raise ResponseParserError(f"a page with {error}") from None
        retries = _retries(page)
        self.counts.add(list_requests=retries, retries=retries)
        if "IsTruncated" not in page or not all("Key" in entry for entry in page.get("Contents", [])):
            raise ResponseParserError("a page without an end, or without keys")  # no whole page of S3 is like that
        return page

    def fetch(self, wanted: Wanted) -> Fetched:
        """Give one object whole, of the length and md5 that the bucket says.

        A body that breaks off is resumed where it broke; what came wrong is thrown away and asked for anew.
        While the server says SlowDown, fewer objects are fetched at once, and none before its Retry-After is over.
        """
        with self._explained(wanted), self.gate.stream() as place:
            fetched = self._fetch(wanted, place)
        self.gate.succeed()
        self._witnesses.came(wanted.key)
        return fetched

    def read_optional(self, key: str) -> bytes | None:
        """Give a small object, or None when there is none; nor is there one that these credentials may not see.

        Servers answer 403, not 404, for what does not exist to those who may not list.
        """
        try:
            with self.gate.stream() as place:
                return self._fetch(ObjectInfo(key, -1, ""), place).data
        except (ClientError, BotoCoreError) as error:
            if is_denied(error):
                self._tell(f"{key} is refused (403) and therefore taken for absent")
                return None
            if is_missing(error):
                return None
            raise self._bucket_error(error) from error

    def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
        """Give some bytes of one object, under the same rules; no md5 says whether they are right."""
        with self._explained(wanted), self.gate.stream() as place:
            try:
                body = self._receive(wanted, lambda: Body(wanted, start, stop), place)
            except ClientError as error:
                if start == 0 and is_beyond_end(error):
                    raise RangeRefused from error  # an empty object has no range at all
                raise
        self.gate.succeed()
        return FetchedRange(start, body.data, body.size, body.etag)

    @contextmanager
    def _explained(self, wanted: Wanted) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            if concerns_all(error) or (may_concern_all(error) and self._witnesses.are_refused_too(wanted.key)):
                raise self._bucket_error(error) from error
            raise explain_object(error, volume_id(wanted.key)) from error

    def _bucket_error(self, error: Exception) -> BucketError:
        return explain_bucket(error, self.name, self.endpoint, _secrets())

    def _tell(self, text: str) -> None:
        say(f"{self.name}: {text}")

    def _fetch(self, wanted: Wanted, place: Place) -> Fetched:
        body = self._receive(wanted, lambda: Body(wanted), place)
        return Fetched(body.data, body.size, body.etag, body.md5)

    def _receive(self, wanted: Wanted, new_body: Callable[[], Body], place: Place) -> Body:
        """Ask until the body is whole and right, and give up only when one try after the other brings nothing."""
        body, tries, problem = new_body(), Tries(), ""
        while not tries.are_over:
            before = body.received
            response = self._ask(wanted.key, body, tries)
            try:
                problem = self._take(wanted.key, response, body, place)
            except SteppedAsideError:
                place.step_aside()
                continue
            except SpoiledBodyError as error:
                problem = f"{error}, {BODY_ATTEMPTS} times"
                body = new_body()
            if not problem:
                self.counts.add(received_bytes=body.received)
                return body
            tries.end(body.received - before)
        if self._witnesses.are_refused_too(wanted.key):
            raise BucketError(f"bucket {self.name}: {problem}; nor does anything else come: try again later")
        raise FetchError(f"{volume_id(wanted.key)}: {problem}")

    def _ask(self, key: str, body: Body, tries: Tries) -> Any:
        """Ask for what a body lacks until there is an answer; None where there is nothing of what was promised."""
        while True:
            try:
                return self._get(key, body, resumed=tries.begin())
            except (ClientError, BotoCoreError) as error:
                # botocore tries again, too, but hardly any more once many objects failed: its quota is the client's.
                tries.end(0)
                is_beyond = body.is_beyond_its_end(error)
                if tries.are_over or not (is_passing(error) or is_beyond):
                    raise
                if is_beyond:
                    return None
                if not is_slow_down(error):
                    sleep(FIRST_PAUSE_S * 2 ** (tries.fruitless - 1))

    def _take(self, key: str, response: Any, body: Body, place: Place) -> str:
        """Receive one answer; say what is wrong, or "" of a body that is whole and right.

        Raises: SpoiledBodyError, SteppedAsideError.
        """
        if response is None:
            raise SpoiledBodyError("the server has fewer bytes than it promised")
        try:
            body.receive(response, place)
            self._witnesses.check(body, key, place)
        except (StalledBodyError, ReadTimeoutError, TimeoutError):
            return f"the line is too slow: hardly a byte came, {BODY_ATTEMPTS} times; {body.describe()}"
        except (BrokenBodyError, HTTPError):
            return f"the body broke off {BODY_ATTEMPTS} times; {body.describe()}"
        finally:
            response["Body"].close()  # of a body that came whole, the connection is back in the pool already
        return ""

    def _get(self, key: str, body: Body, *, resumed: bool) -> Any:
        request: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + key, **body.conditions()}
        try:
            response: Any = self.client.get_object(**request)
        except (ClientError, BotoCoreError) as error:
            self._count(error.response if isinstance(error, ClientError) else {}, resumed=resumed)
            raise
        self._count(response, resumed=resumed)
        return response

    def _count(self, response: Any, *, resumed: bool) -> None:
        retries = _retries(response)
        self.counts.add(get_requests=1 + retries, retries=retries + resumed)

    def _obey(self, response_dict: dict[str, Any] | None, **_: Any) -> None:
        """See each answer before botocore tries again: it would not read Retry-After, nor spare the other streams."""
        if response_dict is not None and response_dict["status_code"] in SLOW_DOWN_STATUS:
            self.gate.slow_down(_retry_after_s(response_dict["headers"]))
            self.gate.wait()


def _make_client(access: S3Access, streams: int) -> "S3Client":
    """Make the one client. B2 refuses the checksums that boto3 sends by default since 1.36."""
    client: S3Client = access.session.client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region,
        verify=access.ca_bundle or True,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 5},
            max_pool_connections=max(streams, 10),
            signature_version="s3v4",
            s3={"addressing_style": "path" if access.endpoint else "auto"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            tcp_keepalive=True,
        ),
    )
    return client


def _secrets() -> list[str]:
    """Give what a server might repeat; all of it longer than any word that it would use."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return [secret for name in names if len(secret := os.environ.get(name, "")) > SHORTEST_SECRET]


def _retries(response: Any) -> int:
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _retry_after_s(headers: Any) -> float:
    """Read Retry-After in seconds (RFC 9110, 10.2.3); its other form, a date, is not used by S3 servers."""
    text = str(headers.get("retry-after", "")).strip()
    return float(text) if text.isascii() and text.isdecimal() else 0.0
