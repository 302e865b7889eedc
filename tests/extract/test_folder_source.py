"""A bucket that is a local folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from source_contract import RangeContract

from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.open import open_source
from extract.bucket.s3 import S3Source
from extract.bucket.source import ObjectInfo, RangeSource, Source
from extract.errors import BucketError, FetchError


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

    def test_links_within_are_followed_and_every_other_is_counted_with_its_reason(self) -> None:
        source = self.open_with({"real/deep/a": b"1"})
        (self.root / "leak").symlink_to(self.root.parent / "outside")
        (self.root / "up").symlink_to(self.root.parent)
        (self.root / "gone_outside").symlink_to(self.root.parent / "nowhere")
        (self.root / "dangling").symlink_to(self.root / "nowhere")
        (self.root / "itself").symlink_to(self.root / "itself")
        (self.root / "again").symlink_to(self.root / "real")
        (self.root / "real/deep/back").symlink_to(self.root / "real")
        os.mkfifo(self.root / "pipe")
        for _ in range(2):
            assert [info.key for info in source.list_objects()] == ["again/deep/a", "real/deep/a"]
            assert dict(source.counts.passed_over) == {
                "link out of the bucket": 3,
                "link to nothing": 1,
                "link in a circle": 3,
                "neither file nor folder": 1,
            }
        assert source.read_optional("again/deep/a") == b"1"
        with pytest.raises(FetchError, match="a link out of the bucket"):
            source.fetch(ObjectInfo("leak", -1, ""))

    def test_a_listing_counts_links_as_skipped(self) -> None:
        key = "retinal_oct/structural_oct/zeiss_cirrus/1001/1001_cirrus_mac_oct_l_1.2.dcm"
        source = self.open_with({key: b"1"})
        (self.root / key.replace("1001", "1002")).parent.symlink_to(self.root.parent)
        listing = list_volumes(source)
        assert (len(listing.refs), listing.listed) == (1, 2)
        assert listing.skipped == {"link out of the bucket": 1}


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
