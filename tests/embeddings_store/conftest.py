"""A store's address on a real S3 server, for the contracts that every place of a store inherits."""

from collections.abc import Iterator

import pytest
from rclone_server import rclone_s3


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    directory = tmp_path_factory.mktemp("s3") / "buckets"
    (directory / "bucket").mkdir(parents=True)
    with rclone_s3(directory) as server:
        yield server


@pytest.fixture
def s3_url(s3_server: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Give an address that no other test has; its server and keys stand in the environment."""
    for name, value in zip(("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), s3_server, strict=True):
        monkeypatch.setenv(name, value)
    return f"s3://bucket/studies/{request.node.name}"
