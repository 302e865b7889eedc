"""Answers that no S3 server gives: a redirect to another place, or a page for people."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
AWS = (".amazonaws.com", ".amazonaws.com.cn")
_PAGES = (b"<!doctype html", b"<html")
_DATE = re.compile(rb"<((?:\w+:)?LastModified)>[^<]*</\1>")
_MORE = re.compile(rb"(<(?:\w+:)?IsTruncated>)\s*(\w*)\s*(?=</)")
_WORDS = {b"true": b"true", b"1": b"true", b"yes": b"true", b"false": b"false", b"0": b"false", b"no": b"false"}


class RedirectedError(BotoCoreError):
    """The server sends its clients elsewhere; to follow would send them what was signed for here."""

    fmt = "the server redirects to {place}"


class PageError(BotoCoreError):
    """A page for people came: from a proxy, a login, or a server that speaks no S3."""

    fmt = "an HTML page came in place of {what}"


def check_answer(
    response_dict: Mapping[str, Any] | None, parsed_response: Any, event_name: str, endpoint: str, **_: Any
) -> None:
    """Look at an answer before botocore follows or parses it. Raises: RedirectedError, PageError.

    Redirects among the regions of AWS are left to botocore, which signs anew.
    """
    if response_dict is None:
        return
    status, headers, body = response_dict["status_code"], response_dict["headers"], response_dict["body"]
    if status in REDIRECTS and not (urlsplit(endpoint).hostname or "").endswith(AWS):
        raise RedirectedError(place=_place(headers, (parsed_response or {}).get("Error", {})))
    is_page = str(headers.get("content-type", "")).startswith("text/html")
    if status < min(REDIRECTS) and event_name.endswith(".GetObject") and is_page and "etag" not in headers:
        raise PageError(what="an object")
    if status < min(REDIRECTS) and event_name.endswith(".ListObjectsV2") and _is_page(body):
        raise PageError(what="a listing")


def tidy_listing(response_dict: dict[str, Any], **_: Any) -> None:
    """Write a page of a listing as botocore reads it, for which any word but "true" means the last page.

    Dates go: nobody needs them, and an odd one is an error. Raises: ResponseParserError for a word of neither meaning.
    """
    response_dict["body"] = _MORE.sub(
        lambda found: found[1] + _read_truth(found[2]), _DATE.sub(b"", response_dict["body"])
    )


def _read_truth(word: bytes) -> bytes:
    if word.lower() not in _WORDS:
        raise ResponseParserError("a page that does not say whether it is the last one")
    return _WORDS[word.lower()]


def _is_page(body: Any) -> bool:
    return isinstance(body, bytes) and body.lstrip()[:20].lower().startswith(_PAGES)


def _place(headers: Mapping[str, str], error: Mapping[str, str]) -> str:
    """Name where to, without path and query: those hold keys, and may hold a signature."""
    where = urlsplit(headers.get("location", ""))
    region = headers.get("x-amz-bucket-region", "") or error.get("Region", "")
    place = f"{where.scheme}://{where.netloc.rpartition('@')[2]}" if where.netloc else error.get("Endpoint", "")
    return " ".join(part for part in (place, f"region {region}" if region else "") if part) or "no place that it names"
