"""Where an S3 server is and who asks it, found once for bucket and store, by boto3's own rules.

Keys from the environment, a profile (keys, role, SSO, credential_process), a web identity, a container or an instance;
endpoint from --endpoint-url, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or a profile's endpoint_url or services section;
CA from AWS_CA_BUNDLE, a profile's ca_bundle or REQUESTS_CA_BUNDLE. Proxies (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) are read
by both clients themselves. https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html

boto3 comes in by obstore's own credential provider, and only where S3 is used: the store does without it elsewhere.
"""

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError
from typing import TYPE_CHECKING, Any

from embeddings_store.addresses import require_no_credentials
from embeddings_store.errors import StoreError
from embeddings_store.places import expand_home

if TYPE_CHECKING:
    from obstore.store import ClientConfig

# Keys of roles are renewed by boto3 ten minutes before they end, at the latest: nobody keeps them as long as that.
KEYS_LAST = timedelta(minutes=5)
DEFAULT_REGION = "us-east-1"
NOT_TRUSTED = "the server's certificate is not trusted; set AWS_CA_BUNDLE to the file (PEM) of who vouches for it"
UNREACHABLE = "the endpoint cannot be reached; check --endpoint-url and the network"
PROXY_REFUSES = "the proxy that HTTPS_PROXY (or HTTP_PROXY) names refuses, or is not there; check it, or set NO_PROXY"
_REGION_IN_HOST = re.compile(r"//s3[.-](?:dualstack\.)?([a-z]{2,}(?:-[a-z]+)+-\d+)\.")
_MESSAGE_LENGTH = 500


@dataclass(frozen=True, slots=True)
class S3Access:
    """One place and one identity. endpoint: None for AWS itself. ca_bundle: a PEM file; None: the usual authorities.

    session: of boto3; its keys are never shown.
    """

    endpoint: str | None
    region: str
    ca_bundle: str | None
    session: Any = field(repr=False)

    @property
    def address(self) -> str:
        """Where to connect, spelt out for a client that would else look into the environment itself."""
        china = ".cn" if self.region.startswith("cn-") else ""
        return self.endpoint.rstrip("/") if self.endpoint else f"https://s3.{self.region}.amazonaws.com{china}"


def find_s3(endpoint_url: str | None) -> S3Access:
    """Look into the surroundings; nothing is connected yet. Raises StoreError."""
    provided = _provided()
    try:
        return _find(endpoint_url, provided)
    except provided.botocore.exceptions.ProfileNotFound as error:
        raise StoreError(f"AWS_PROFILE names a profile that the AWS configuration does not have: {error}") from None
    except provided.botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"no access to S3: {trouble(error)}") from None


def _provided() -> Any:
    from obstore.auth import boto3 as provided

    return provided


def _find(endpoint_url: str | None, provided: Any) -> S3Access:
    session = provided.boto3.Session()
    core = session._session  # boto3 shows neither endpoint nor CA before a client is made
    endpoint = endpoint_url or _configured_endpoint(provided.botocore, core)
    if endpoint:
        plain = require_no_credentials(endpoint, "endpoint", StoreError)
        endpoint = plain if "://" in plain else f"https://{plain}"
    named = _REGION_IN_HOST.search(endpoint or "")
    region = named[1] if named else os.environ.get("AWS_REGION") or session.region_name or DEFAULT_REGION
    return S3Access(endpoint, region, _find_ca(core), session)


def _find_ca(core: Any) -> str | None:
    """Find the certificates that the surroundings name. Raises StoreError where the file holds none."""
    named = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if not named:
        return None
    path = expand_home(named)
    try:
        SSLContext(PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        got = "no certificate" if isinstance(error, SSLError) else error.strerror
        raise StoreError(
            f"AWS_CA_BUNDLE (or ca_bundle of the profile): {path}: expected a readable file of certificates (PEM), "
            f"got: {got}"
        ) from None
    return str(path)


def open_credentials(access: S3Access) -> Any:
    """Return the provider that obstore asks for the keys, again and again. Raises StoreError where none come."""
    provided = _provided()
    errors = provided.botocore.exceptions
    try:
        found = access.session.get_credentials()
        if found is not None:
            found.get_frozen_credentials()
    except (errors.BotoCoreError, errors.ClientError, ValueError, OSError) as error:
        raise StoreError(f"no credentials for S3: {trouble(error)}") from None
    if found is None:
        raise StoreError(
            "no credentials for S3: expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile "
            "(AWS_PROFILE), or the role of a container, instance or web identity; got none of them"
        )
    return provided.Boto3CredentialProvider(access.session, ttl=KEYS_LAST)


def trouble(error: Exception) -> str:
    """Put what botocore says of credentials and configuration into one line; it quotes no key.

    Of credential_process it is what the program wrote to stderr.
    """
    text = " ".join(str(error).split())
    return f"{text[:_MESSAGE_LENGTH] or type(error).__name__} ({type(error).__name__})"


def read_ca(access: S3Access) -> "ClientConfig":
    """Read the certificates that the surroundings name, as an option of obstore."""
    return {"root_certificate": Path(access.ca_bundle).read_bytes()} if access.ca_bundle else {}


def _configured_endpoint(botocore: Any, core: Any) -> str | None:
    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    provider = botocore.configprovider.ConfiguredEndpointProvider(
        full_config=core.full_config, scoped_config=core.get_scoped_config(), client_name="s3"
    )
    found: str | None = provider.provide()
    return found
