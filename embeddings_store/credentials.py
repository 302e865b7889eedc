"""Who asks an S3 server: the environment's keys, or an AWS profile's, in the order that boto3 has for the bucket.

https://docs.aws.amazon.com/cli/v1/userguide/cli-configure-files.html (files, sections, names of the variables).
Read here, since boto3 is no part of this floor. No value of a key is ever printed.
"""

from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ParserError
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings_store.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import S3Config

KEYS = ("aws_access_key_id", "aws_secret_access_key")
TOKEN = "aws_session_token"
# What a profile may name instead of keys; boto3 can follow it, but needs a browser, a program or AWS itself.
INDIRECT = ("sso_session", "sso_start_url", "credential_process", "role_arn", "web_identity_token_file")


def s3_credentials(environment: Mapping[str, str]) -> "S3Config":
    """Give the keys of a profile as obstore's settings; {} when the environment has keys, which obstore takes itself.

    Raises StoreError where there are none, and for profiles without keys of their own.
    """
    if environment.get("AWS_ACCESS_KEY_ID"):
        return {}
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    profile = _profile(environment, name)
    if all(profile.get(key) for key in KEYS):
        keys: S3Config = {"access_key_id": profile[KEYS[0]], "secret_access_key": profile[KEYS[1]]}
        if profile.get(TOKEN):
            keys["session_token"] = profile[TOKEN]
        return keys
    if indirect := [key for key in INDIRECT if profile.get(key)]:
        raise StoreError(
            f"the AWS profile {name!r} gives no keys but {indirect[0]}: run "
            f'`eval "$(aws configure export-credentials --profile {name} --format env)"`, and start again'
        )
    raise StoreError(
        "no credentials for S3: expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile "
        f"with keys (AWS_PROFILE; looked for {name!r}), got neither"
    )


def profile_region(environment: Mapping[str, str]) -> str | None:
    """Give the region of the profile; None where it names none."""
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    return _profile(environment, name).get("region")


def _profile(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """Read one profile from both files; the one for credentials counts where both have a key."""
    config = environment.get("AWS_CONFIG_FILE") or "~/.aws/config"
    credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    section = name if name == "default" else f"profile {name}"
    return _section(config, section) | _section(credentials, name)


def _section(file: str, name: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None, default_section="")
    path = Path(file).expanduser()
    try:
        parser.read(path)
    except (ParserError, UnicodeDecodeError) as error:
        # Not its message: it quotes lines of the file.
        raise StoreError(f"{file} is no file of AWS profiles ({type(error).__name__})") from None
    return dict(parser[name]) if parser.has_section(name) else {}
