"""The body of one object, or of a range of it: collected over as many responses as it takes, and checked."""

import hashlib
import re
from io import BytesIO
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from embeddings_store.schema import volume_id
from extract.bucket.etags import clean_etag, is_weak
from extract.bucket.gate import Place
from extract.bucket.refusals import CHANGED, is_beyond_end
from extract.bucket.source import RangeRefused, Wanted
from extract.errors import FetchError

CHUNK_BYTES = 1 << 20
PATIENCE_S = 30.0
SICK_BYTES_PER_S = 64 * 1024  # over PATIENCE_S, while the others are far faster: another connection may be as fast
STALLED_BYTES_PER_S = 1024  # over PATIENCE_S: no line is so slow that anybody would wait for it

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class BrokenBodyError(Exception):
    """The body ends too early, or comes no more."""


class StalledBodyError(BrokenBodyError):
    """Hardly a byte came for as long as PATIENCE_S."""


class SteppedAsideError(Exception):
    """Nothing is wrong: the line is slow, and older bodies come first."""


class SpoiledBodyError(Exception):
    """What came is not the object: none of it can be kept."""


class OtherDigestError(SpoiledBodyError):
    """The length is right, but the ETag is not the md5 of what came."""


class Body:
    """What came so far of one object, or of its bytes from start to stop (or to its end, where that comes first).

    size, etag: of the whole object, -1 and "" until the first response.
    """

    def __init__(self, wanted: Wanted, start: int = 0, stop: int | None = None) -> None:
        self.name, self.size, self.etag = volume_id(wanted.key), wanted.size, wanted.etag
        self._came = BytesIO()  # unlike a bytearray, it gives out what came without a copy
        self.md5 = b""
        self._start, self._stop = start, stop
        self._etag_is_md5 = self._weak = False
        self._ranges = True

    @property
    def received(self) -> int:
        """Count the bytes that came."""
        return self._came.tell()

    @property
    def data(self) -> bytes:
        """Give what came."""
        return self._came.getvalue()

    def conditions(self) -> dict[str, str]:
        """Say what to ask for next: nothing for a whole object from its start, else a range of the same object."""
        if self._stop is None and not self.received:
            return {}
        last = "" if self._stop is None else self._stop - 1
        conditions = {"Range": f"bytes={self._start + self.received}-{last}"}
        # A weak ETag never fits If-Match (RFC 9110, 13.1.1); it is compared when the answer comes.
        return conditions | ({"IfMatch": f'"{self.etag}"'} if self.etag and not self._weak else {})

    def receive(self, response: Any, place: Place) -> None:
        """Append one response's bytes, as long as they come: a slow line is no fault.

        Raises: FetchError when the object is another one now; RangeRefused; an error of the body; SteppedAsideError.
        """
        self._check_unchanged(response)
        start, before = monotonic(), self.received
        # StreamingBody.read would wait for a whole chunk, however slowly it trickles; read1 gives what is there.
        stream = response["Body"]._raw_stream
        while self.received < self._expected:
            elapsed = monotonic() - start
            if elapsed > PATIENCE_S:
                _require_progress((self.received - before) / elapsed, place)
                start, before = monotonic(), self.received
            chunk = stream.read1(CHUNK_BYTES)
            if not chunk:
                raise BrokenBodyError
            self._came.write(chunk)
            place.note(len(chunk))
            if place.must_wait and self._can_go_on_later:
                raise SteppedAsideError

    def check(self) -> None:
        """Compare a whole object's md5 with its ETag, where that may be one. Raises: OtherDigestError."""
        if self._stop is not None:
            return
        digest = hashlib.md5(self.data, usedforsecurity=False)
        self.md5 = digest.digest()
        if self.etag_may_be_md5 and digest.hexdigest() != self.etag:
            raise OtherDigestError(f"the {self.received:,} bytes that came do not have the md5 of the object")

    @property
    def etag_may_be_md5(self) -> bool:
        """Tell whether the ETag looks like an md5, and nothing in the answer says that it is none."""
        return self._etag_is_md5

    def is_beyond_its_end(self, error: ClientError | BotoCoreError) -> bool:
        """Tell whether the server has no more bytes, though the first answer promised some."""
        return self.received > 0 and is_beyond_end(error)

    def describe(self) -> str:
        """Say how much came."""
        return f"got {self.received:,} of {self._expected:,} bytes"

    @property
    def _expected(self) -> int:
        return (self.size if self._stop is None else min(self._stop, self.size)) - self._start

    @property
    def _can_go_on_later(self) -> bool:
        """Tell whether the rest can be asked for by itself: some is left, and it is sure to be of the same object."""
        return self._ranges and bool(self.etag) and self.received < self._expected

    def _check_unchanged(self, response: Any) -> None:
        told = response.get("ETag", "")
        etag = clean_etag(told) or self.etag  # a server that tells none leaves the one of the listing
        if self.etag not in {"", etag}:
            raise FetchError(f"{self.name}: {CHANGED}")
        self._weak = self._weak or is_weak(told)
        if self.received and not self.etag:
            raise SpoiledBodyError("no ETag says that its parts are of the same object")
        if self.received and "ContentRange" not in response:
            self._ranges = False
        size = self._size_in(response)
        if self.size not in {-1, size}:
            if self.etag:
                raise SpoiledBodyError(f"expected {self.size:,} bytes, but the server announced {size:,}")
            raise FetchError(f"{self.name}: {CHANGED}")
        self.etag, self.size, self._etag_is_md5 = etag, size, _is_md5(etag, response)
        if self._stop is not None and response["ContentLength"] != self._expected - self.received:
            raise SpoiledBodyError(f"expected {self._expected:,} bytes of the object, the server announced others")

    def _size_in(self, response: Any) -> int:
        """Read the whole object's size. Raises: RangeRefused when a range was asked for, and everything came."""
        if self._stop is None:
            return self.received + int(response["ContentLength"])
        found = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
        if found is None:
            raise RangeRefused
        first, _, size = map(int, found.groups())
        if first != self._start + self.received:
            raise SpoiledBodyError(f"expected the bytes from {self._start:,}, got those from {first:,}")
        return size


def _require_progress(bytes_per_s: float, place: Place) -> None:
    """Give a body up that stands still, or crawls while the others run."""
    if bytes_per_s < STALLED_BYTES_PER_S:
        raise StalledBodyError
    if bytes_per_s < SICK_BYTES_PER_S and place.is_behind(bytes_per_s):
        raise BrokenBodyError


def _is_md5(etag: str, response: Any) -> bool:
    """Tell whether an ETag is the md5 of the object: not of one in parts ("-"), nor under SSE-KMS or SSE-C.

    Source: Amazon S3 API Reference, "Object", ETag. Those objects are checked by their length alone, and by TLS.
    """
    encrypted = response.get("SSECustomerAlgorithm") or "kms" in response.get("ServerSideEncryption", "")
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None and not encrypted
