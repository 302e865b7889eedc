"""What an S3 server refused, in the house's own errors: one message each, never a key or a secret."""

import re
from collections.abc import Iterable

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from embeddings_store.s3_access import NOT_TRUSTED, PROXY_REFUSES, UNREACHABLE, trouble
from extract.bucket.answers import PageError, RedirectedError
from extract.errors import BucketError, FetchError

_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "SignatureDoesNotMatch",
        "Unauthorized",
        "UnauthorizedAccess",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_CLOCK = frozenset({"RequestTimeTooSkewed"})
_ACCOUNT = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "BandwidthLimitExceeded",
        "InvalidPayer",
        "QuotaExceeded",
        "UserSuspended",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "Forbidden"})
_REGION = frozenset({"301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"})
_CHANGED = frozenset({"412", "416", "InvalidRange", "PreconditionFailed"})
_BEYOND_END = frozenset({"416", "InvalidRange"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_ARCHIVED = frozenset({"InvalidObjectState"})
_SERVER = frozenset({"InternalError", "RequestTimeout"})
_SLOW_DOWN = frozenset({"SlowDown", "ServiceUnavailable", "TooManyRequests"})
SLOW_DOWN_STATUS = frozenset({429, 503})
_THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException"})
_PASSING_STATUS = frozenset({408, 500, 502, 504, *range(520, 531), *SLOW_DOWN_STATUS})
"""Of servers, and of what stands in front of them (520 to 530: Cloudflare)."""

_OF_THE_ACCOUNT = re.compile(
    r"\bcaps?\b.{0,40}exceeded|cap_?exceeded|exceeded.{0,40}\bcaps?\b|quota|suspended|billing|payment", re.IGNORECASE
)
"""How servers that answer AccessDenied to everything say that it is the account, such as Backblaze's daily caps."""

_HIDDEN = re.compile(r"(?<=\?)\S+|arn:\S+|\S*/\S*\.\w+|[\w+/=-]{20,}|\b(?=\w*\d)\w{12,}|\b\d{4,}\b")
"""What may be a key, a secret, a signature, or name an object: long or numbered tokens, resources and queries."""
_LONGEST_SENTENCE = 300

_NO_KEYS = (
    CredentialRetrievalError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

CHANGED = "the object changed after it was listed; run again to list anew (extract-embeddings: --refresh)"


def is_missing(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the bucket answered that it has no such object."""
    return _code(error) in _MISSING


def is_slow_down(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the server asked for fewer requests."""
    return _code(error) in _SLOW_DOWN or _status(error) in SLOW_DOWN_STATUS


def is_passing(error: ClientError | BotoCoreError | ResponseParserError) -> bool:
    """Tell whether the same request may fare better a little later: the server's or the network's trouble, not ours."""
    network = isinstance(error, (BotoConnectionError, HTTPClientError, ResponseParserError, PageError))
    return network or _code(error) in _SLOW_DOWN | _THROTTLED | _SERVER or _status(error) in _PASSING_STATUS


def is_beyond_end(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the server has no byte of the range that was asked for."""
    return _code(error) in _BEYOND_END


def is_denied(error: ClientError | BotoCoreError) -> bool:
    """Tell whether this object is refused to these credentials, as some servers refuse what does not exist."""
    return _code(error) in _DENIED and not concerns_all(error)


def concerns_all(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the next object would fare no better: the account, its key, the clock, the place, or the network."""
    kinds = (*_NO_KEYS, BotoConnectionError, RedirectedError, PageError)
    codes = _CREDENTIALS | _EXPIRED | _CLOCK | _ACCOUNT | _REGION | {"NoSuchBucket"}
    return isinstance(error, kinds) or _code(error) in codes or _status(error) in _REFUSES or _is_of_account(error)


def may_concern_all(error: ClientError | BotoCoreError) -> bool:
    """Tell whether only another object can show if it is this one that the server refuses, or fails to give."""
    own = _code(error) in _MISSING | _CHANGED | _ARCHIVED
    return isinstance(error, (ClientError, HTTPClientError)) and not own and not concerns_all(error)


def explain_bucket(error: Exception, name: str, endpoint: str | None, secrets: Iterable[str] = ()) -> BucketError:
    """Say why the bucket as a whole cannot be read, in the server's own words too, and what to do."""
    where = f"{name} at {endpoint}" if endpoint else name
    sentence = _readable(_sentence(error), secrets)
    return BucketError(f"bucket {where}: {_reason(error)}" + (f'; the server says: "{sentence}"' if sentence else ""))


def explain_object(error: ClientError | BotoCoreError, volume: str) -> FetchError:
    """Say why this one object cannot be read."""
    code = _code(error)
    if code in _MISSING:
        return FetchError(f"{volume}: the object is gone")
    if code in _CHANGED:
        return FetchError(f"{volume}: {CHANGED}")
    if code in _ARCHIVED:
        return FetchError(
            f"{volume}: the object lies in an archive ({code}); restore it there, then: extract-embeddings retry"
        )
    return FetchError(f"{volume}: the server refused with {code or type(error).__name__}")


def _sentence(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) if isinstance(error, ClientError) else ""


def _readable(text: str, secrets: Iterable[str]) -> str:
    """Put a server's words on one line, without what may be secret; "" where hardly a word is left."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _HIDDEN.sub("***", " ".join(text.split()))[:_LONGEST_SENTENCE]
    text = "".join(letter for letter in text if letter.isprintable())
    return text if len(re.findall(r"[A-Za-z]{2,}", text)) > 1 else ""


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _status(error: Exception) -> int:
    return (
        int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if isinstance(error, ClientError)
        else 0
    )


def _is_of_account(error: Exception) -> bool:
    return _OF_THE_ACCOUNT.search(f"{_code(error)} {_sentence(error)}") is not None


def _refusal(error: ClientError) -> str:
    """Give the reason for what a server answered; "" where its code and status say nothing that is known."""
    if _is_of_account(error):
        return _REASONS[_ACCOUNT]
    for codes, reason in _REASONS.items():
        if _code(error) in codes:
            return reason
    return _REASONS.get(_REFUSES.get(_status(error)) or (_SERVER if is_passing(error) else frozenset()), "")


def _reason(error: Exception) -> str:
    code = _code(error)
    if isinstance(error, ClientError) and (reason := _refusal(error)):
        return f"{reason} ({code})"
    for kinds, reason in _FAILURES.items():
        if isinstance(error, kinds):
            return reason.format(error=error)
    if isinstance(error, (*_NO_KEYS, ConfigParseError)):
        return f"no credentials came: {trouble(error)}"
    return f"the server or client refused with {code or type(error).__name__}"


_REASONS = {
    _CREDENTIALS: "the credentials are refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    _EXPIRED: "the credentials are refused, for they have expired; renew them, then run the same command again",
    _CLOCK: "this machine's clock is wrong; set it, then run the same command again",
    _ACCOUNT: "the account is refused, not an object; settle it there, then run the same command again",
    _DENIED: "access is denied; expected credentials that may list and read this bucket",
    _REGION: "the bucket lies in another region; check --endpoint-url, or AWS_REGION",
    _SERVER: "the server fails again and again; try again later with the same command",
    frozenset({"NoSuchBucket", "404"}): "there is no such bucket; check --bucket and --endpoint-url",
}
_REFUSES = {401: _CREDENTIALS, 402: _ACCOUNT, 509: _ACCOUNT}
_FAILURES: dict[tuple[type[Exception], ...], str] = {
    (NoCredentialsError, PartialCredentialsError): (
        "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; no container, instance "
        "or web identity gave any"
    ),
    (SSLError,): NOT_TRUSTED,
    (ReadTimeoutError,): "the line is too slow: hardly a byte comes; try later with the same command",
    (ProxyConnectionError,): PROXY_REFUSES,
    (BotoConnectionError, HTTPClientError): UNREACHABLE,
    (RedirectedError,): "{error}; give --endpoint-url, or AWS_REGION, as it is there",
    (PageError,): "{error}; is --endpoint-url that of an S3 server, and does no proxy or login stand in between?",
    (ResponseParserError,): "its listing breaks off again and again, or is none of an S3 server; check the network and "
    "--endpoint-url, and try again later",
    (ValueError,): "the endpoint is no URL; expected https://host",
}
