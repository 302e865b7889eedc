"""From one page of a listing to the next, whatever a server makes of IsTruncated and its token."""

from typing import Any

from extract.errors import BucketError


class Paging:
    """What was listed so far, so that a server which goes round in circles is seen."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tokens, self._first_keys = set[str](), set[str]()

    def next(self, page: Any) -> dict[str, str] | None:
        """Say how to ask for what comes after a page; None after the last. Raises: BucketError."""
        keys = [entry["Key"] for entry in page.get("Contents", [])]
        if keys:
            self._require_new(keys[0], self._first_keys, "the same keys again")
        if not page["IsTruncated"]:
            return None
        token = page.get("NextContinuationToken")
        if token:
            self._require_new(token, self._tokens, "the same token again")
            return {"ContinuationToken": token}
        if not keys:
            raise self._refuse("neither keys nor a token")
        return {"StartAfter": keys[-1]}

    def _require_new(self, what: str, seen: set[str], words: str) -> None:
        if what in seen:
            raise self._refuse(words)
        seen.add(what)

    def _refuse(self, words: str) -> BucketError:
        return BucketError(
            f"bucket {self._name}: the listing is cut short: the server says that there is more, but gives {words}; "
            "nothing was taken from it. Is this an S3 server, and is it up to date?"
        )
