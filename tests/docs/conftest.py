"""One prepared folder, one S3 server and one set of warm console scripts for all pages of a session."""

import os
from collections.abc import Iterator

import pytest
from page_world import SURROUNDINGS, World, prepare
from rclone_server import rclone_s3
from warm_scripts import warm_scripts


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, near = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("near")
    with warm_scripts(near / "bin", os.environ | SURROUNDINGS) as programs:
        prepare(folder, programs)
        with rclone_s3(folder / "s3") as (endpoint_url, access_key, secret_key):
            yield World(folder, programs, endpoint_url, access_key, secret_key)
