"""A bucket that is a local folder."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from source_contract import RangeContract

from extract.bucket.folder import FolderSource
from extract.bucket.s3 import S3Source
from extract.bucket.source import RangeSource, Source, open_source
from extract.errors import BucketError


class TestFolder(RangeContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "bucket"
        self.root.mkdir()
        (tmp_path / "outside").write_bytes(b"private")

    def open_with(self, objects: Mapping[str, bytes]) -> RangeSource:
        for key, data in objects.items():
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            (self.root / key).write_bytes(data)
        return FolderSource(self.root)

    def replace(self, source: Source, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)

    def remove(self, source: Source, key: str) -> None:
        (self.root / key).unlink()

    def test_links_that_lead_outside_are_ignored(self) -> None:
        source = self.open_with({"a": b"1"})
        (self.root / "leak").symlink_to(self.root.parent / "outside")
        (self.root / "up").symlink_to(self.root.parent)
        (self.root / "same").symlink_to(self.root / "a")
        (self.root / "dangling").symlink_to(self.root / "nowhere")
        assert [info.key for info in source.list_objects()] == ["a", "same"]
        assert source.read_optional("leak") is None


class TestOpen:
    def test_a_folder_and_a_prefix(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/x").write_bytes(b"1")
        source = open_source(str(tmp_path), "in/")
        assert isinstance(source, FolderSource)
        assert [info.key for info in source.list_objects()] == ["x"]

    @pytest.mark.parametrize(("bucket", "prefix"), [("{}/missing", ""), ("{}", "missing"), ("s3://", ""), ("", "")])
    def test_what_is_not_there(self, tmp_path: Path, bucket: str, prefix: str) -> None:
        with pytest.raises(BucketError, match=r"bucket '.*': expected"):
            open_source(bucket.format(tmp_path) or "./nothing/here", prefix)

    @pytest.mark.parametrize(
        ("bucket", "prefix", "name"),
        [
            ("eye", "", "s3://eye/"),
            ("eye", "/a/b/", "s3://eye/a/b/"),
            ("s3://eye/a/", "b", "s3://eye/a/b/"),
            ("s3://eye", "", "s3://eye/"),
        ],
    )
    def test_names_of_s3_buckets(self, bucket: str, prefix: str, name: str) -> None:
        source = open_source(bucket, prefix, "http://127.0.0.1:1")
        assert isinstance(source, S3Source)
        assert source.name == name
