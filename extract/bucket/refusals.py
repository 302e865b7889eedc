"""What an S3 server refused, in the house's own errors: one message each, never a key or a secret."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from embeddings_store.errors import OctProbeError
from embeddings_store.s3_access import trouble
from extract.errors import BucketError, FetchError

_CREDENTIALS = frozenset(
    {
        "401",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "Unauthorized",
        "UnauthorizedAccess",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden"})
_REGION = frozenset({"301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"})
_CHANGED = frozenset({"412", "416", "InvalidRange", "PreconditionFailed"})
_BEYOND_END = frozenset({"416", "InvalidRange"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_SERVER = frozenset({"500", "502", "504", "InternalError", "RequestTimeout"})
_SLOW_DOWN = frozenset({"503", "SlowDown", "ServiceUnavailable"})

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
    return _code(error) in _SLOW_DOWN


def is_passing(error: ClientError | BotoCoreError | ResponseParserError) -> bool:
    """Tell whether the same request may fare better a little later: the server's or the network's trouble, not ours."""
    network = isinstance(error, (BotoConnectionError, HTTPClientError, ResponseParserError))
    return network or _code(error) in _SLOW_DOWN | _SERVER


def is_beyond_end(error: ClientError | BotoCoreError) -> bool:
    """Tell whether the server has no byte of the range that was asked for."""
    return _code(error) in _BEYOND_END


def explain_bucket(error: Exception, name: str, endpoint: str | None) -> BucketError:
    """Say why the bucket as a whole cannot be read, and what to do."""
    where = f"{name} at {endpoint}" if endpoint else name
    return BucketError(f"bucket {where}: {_reason(error)}")


def explain_object(error: ClientError | BotoCoreError, volume: str, name: str, endpoint: str | None) -> OctProbeError:
    """Say why one object cannot be read: a FetchError, or a BucketError when the next one would fare no better."""
    code = _code(error)
    if code in _MISSING:
        return FetchError(f"{volume}: the object is gone")
    if code in _CHANGED:
        return FetchError(f"{volume}: {CHANGED}")
    hopeless = isinstance(error, (*_NO_KEYS, BotoConnectionError))
    if hopeless or code in _CREDENTIALS | _REGION | {"NoSuchBucket"}:
        return explain_bucket(error, name, endpoint)
    return FetchError(f"{volume}: the server refused with {code or type(error).__name__}")


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _reason(error: Exception) -> str:
    code = _code(error)
    for codes, reason in _REASONS.items():
        if code in codes:
            return f"{reason} ({code})"
    for kinds, reason in _FAILURES.items():
        if isinstance(error, kinds):
            return reason
    if isinstance(error, (*_NO_KEYS, ConfigParseError)):
        return f"no credentials came: {trouble(error)}"
    return f"the server or client refused with {code or type(error).__name__}"


_REASONS = {
    _CREDENTIALS: "the credentials are refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    _DENIED: "access is denied; expected credentials that may list and read this bucket",
    _REGION: "the bucket lies in another region; check --endpoint-url, or AWS_REGION",
    _SERVER | _SLOW_DOWN: "the server fails again and again; try again later",
    frozenset({"NoSuchBucket", "404"}): "there is no such bucket; check --bucket and --endpoint-url",
}
_FAILURES: dict[tuple[type[Exception], ...], str] = {
    (NoCredentialsError, PartialCredentialsError): (
        "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; no container, instance "
        "or web identity gave any"
    ),
    (BotoConnectionError, HTTPClientError): "the endpoint cannot be reached; check --endpoint-url and the network",
    (ResponseParserError,): "its listing breaks off again and again; check the network, and try again later",
    (ValueError,): "the endpoint is no URL; expected https://host",
}
