"""S3 credentials: environment first, then a profile; never printed, and a profile without keys is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rclone_server import rclone_s3
from store_makers import SPACE, WORKER

from embeddings_store.credentials import profile_region, s3_credentials
from embeddings_store.errors import StoreError
from embeddings_store.reader import open_reader
from embeddings_store.writer import open_writer

SECRET = "the%secret/with=signs"
CREDENTIALS = f"""
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = other
[study]
aws_access_key_id=AKSTUDY
aws_secret_access_key={SECRET}
aws_session_token = tok
[half]
aws_access_key_id = AKHALF
"""
CONFIG = """
[default]
region = us-west-2
[profile study]
region = eu-central-1
[profile login]
sso_session = hospital
[profile program]
credential_process = /bin/keys
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "credentials").write_text(CREDENTIALS)
    (tmp_path / "config").write_text(CONFIG)
    return {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_CONFIG_FILE": str(tmp_path / "config")}


def test_the_environments_keys_come_first(environment: dict[str, str]) -> None:
    assert s3_credentials(environment | {"AWS_ACCESS_KEY_ID": "AK", "AWS_PROFILE": "study"}) == {}


def test_a_named_profile_and_the_default_one(environment: dict[str, str]) -> None:
    study = environment | {"AWS_PROFILE": "study"}
    assert s3_credentials(study) == {"access_key_id": "AKSTUDY", "secret_access_key": SECRET, "session_token": "tok"}
    assert s3_credentials(environment) == {"access_key_id": "AKDEFAULT", "secret_access_key": "other"}
    assert (profile_region(study), profile_region(environment)) == ("eu-central-1", "us-west-2")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("login", "the AWS profile 'login' gives no keys but sso_session: run `eval"),
        ("program", "gives no keys but credential_process"),
        ("half", "expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile"),
        ("absent", r"\(AWS_PROFILE; looked for 'absent'\)"),
    ],
)
def test_a_profile_without_keys_is_said(environment: dict[str, str], profile: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        s3_credentials(environment | {"AWS_PROFILE": profile})


def test_a_broken_file_is_not_quoted(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"aws_secret_access_key = {SECRET}\n")
    with pytest.raises(StoreError, match="is no file of AWS profiles") as caught:
        s3_credentials(environment)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture
def endpoint(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        keys = f"[study]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        (tmp_path / "credentials").write_text(keys)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_PROFILE", "study")
        yield endpoint


@pytest.mark.s3
def test_a_real_server_takes_a_profiles_keys_and_nothing_shows_them(endpoint: str, tmp_path: Path) -> None:
    writer = open_writer("s3://bucket/x", SPACE, capacity=10, endpoint_url=endpoint, worker=WORKER)
    assert open_reader("s3://bucket/x", endpoint_url=endpoint).space == SPACE
    secret = (tmp_path / "credentials").read_text().split()[-1]
    assert secret not in repr(writer)
