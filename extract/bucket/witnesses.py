"""What other objects of a bucket say, where one alone cannot tell whose fault it is."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from embeddings_store.schema import ObjectInfo
from extract.bucket.body import Body, BrokenBodyError, OtherDigestError, SpoiledBodyError, SteppedAsideError
from extract.bucket.etags import EtagTrust
from extract.bucket.gate import Place
from extract.bucket.refusals import concerns_all, may_concern_all
from extract.errors import FetchError

WITNESSES = 6
"""How many others are asked: twice as many as must differ from their ETags, so that damaged ones are outnumbered."""


class Witnesses:
    """Asks other objects, those of the same kind (suffix) first. Thread-safe.

    first_page: gives objects of the bucket with one request. get: asks once for what a Body lacks of a key.
    """

    def __init__(self, first_page: Callable[[], Iterator[ObjectInfo]], get: Callable[[str, Body], Any]) -> None:
        self._first_page, self._get = first_page, get
        self._etags, self._came = EtagTrust(), deque[str](maxlen=2)
        self._ask_of_etags = Lock()

    def check(self, body: Body, key: str, place: Place) -> None:
        """Compare md5 and ETag of a whole object; that they differ is no fault where ETags are no md5s here.

        Raises: OtherDigestError.
        """
        try:
            body.check()
        except OtherDigestError:
            came_before = self._etags.differ(key, body.md5)
            if came_before and not self._etags.are_no_md5 and self._ask_of_etags.acquire(blocking=False):
                for info in self._others(key)[:WITNESSES]:
                    self._compare(info, place)
            if not self._etags.are_no_md5:
                raise
        else:
            if body.etag_may_be_md5:
                self._etags.agree(key)

    def came(self, key: str) -> None:
        """Note an object that was given."""
        self._came.append(key)

    def are_refused_too(self, key: str) -> bool:
        """Tell whether no other object is given either, not even a byte: then it is no matter of this one."""
        others = [one for one in self._came if one != key and _is_like(one, key)]
        others = others or [info.key for info in self._others(key) if _is_like(info.key, key)]
        return bool(others) and all(self._is_refused(one) for one in others[:WITNESSES])

    def _is_refused(self, key: str) -> bool:
        try:
            answer = self._get(key, Body(ObjectInfo(key, -1, ""), 0, 1))
        except (ClientError, BotoCoreError) as error:
            return concerns_all(error) or may_concern_all(error)
        try:
            return not answer["Body"].read(1)
        except (BotoCoreError, HTTPError, TimeoutError):
            return True
        finally:
            answer["Body"].close()

    def _compare(self, info: ObjectInfo, place: Place) -> None:
        """Fetch another object, and once more where its md5 is not its ETag."""
        for _ in range(2):
            body = Body(info)
            try:
                body.receive(self._get(info.key, body), place)
                body.check()
            except OtherDigestError:
                self._etags.differ(info.key, body.md5)
            except (ClientError, BotoCoreError, HTTPError, TimeoutError, FetchError):
                return
            except (BrokenBodyError, SpoiledBodyError, SteppedAsideError):
                return
            else:
                self._etags.agree(info.key)
                return

    def _others(self, key: str) -> list[ObjectInfo]:
        """Give other objects, those of the kind first, and the smallest of them; none where the listing fails."""
        try:
            found = [info for info in self._first_page() if info.size > 0 and info.key != key]
        except (ClientError, BotoCoreError, ResponseParserError):
            return []
        return sorted(found, key=lambda info: (not _is_like(info.key, key), info.size))


def _is_like(one: str, other: str) -> bool:
    return PurePosixPath(one).suffix == PurePosixPath(other).suffix
