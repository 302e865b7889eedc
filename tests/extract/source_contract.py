"""What every source of objects must do; each implementation inherits these tests."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5

import pytest

from extract.bucket.source import ObjectInfo, Source
from extract.errors import FetchError

OBJECTS = {
    ".DS_Store": b"junk",
    "participants.tsv": b"person_id\tage\n",
    "retinal_oct/a/1.dcm": bytes(range(256)) * 5000,
    "retinal_oct/a/empty.dcm": b"",
    "retinal_oct/b c/ü.dcm": b"odd name",
}


class SourceContract(ABC):
    """Give open_with, and inherit."""

    @abstractmethod
    def open_with(self, objects: Mapping[str, bytes]) -> Source:
        """Open a source that holds exactly these objects below its prefix."""

    @abstractmethod
    def replace(self, source: Source, key: str, data: bytes) -> None:
        """Change one object behind the source's back."""

    @abstractmethod
    def remove(self, source: Source, key: str) -> None:
        """Delete one object behind the source's back."""

    def test_lists_everything_below_the_prefix(self) -> None:
        source = self.open_with(OBJECTS)
        assert {info.key: info.size for info in source.list_objects()} == {k: len(v) for k, v in OBJECTS.items()}
        assert source.counts.list_requests == 1

    def test_lists_nothing_in_an_empty_bucket(self) -> None:
        assert list(self.open_with({}).list_objects()) == []

    def test_fetches_what_was_listed(self) -> None:
        source = self.open_with(OBJECTS)
        for info in source.list_objects():
            fetched = source.fetch(info)
            assert fetched.data == OBJECTS[info.key]
            assert (fetched.size, fetched.etag) == (info.size, info.etag)
            assert fetched.md5 == md5(fetched.data, usedforsecurity=False).digest()
        assert source.counts.get_requests == len(OBJECTS)
        assert source.counts.bytes == sum(map(len, OBJECTS.values()))
        assert source.counts.retries == 0

    def test_fetches_what_only_a_manifest_named(self) -> None:
        source = self.open_with(OBJECTS)
        assert source.fetch(ObjectInfo("retinal_oct/a/1.dcm", -1, "")).size == 256 * 5000

    def test_an_etag_changes_with_the_content(self) -> None:
        source = self.open_with({"a": b"1"})
        (before,) = source.list_objects()
        self.replace(source, "a", b"22")
        (after,) = source.list_objects()
        assert before.etag != after.etag

    def test_a_changed_object_is_an_error_of_that_volume(self) -> None:
        source = self.open_with({"secret-name": b"1"})
        (info,) = source.list_objects()
        self.replace(source, "secret-name", b"22")
        with pytest.raises(FetchError, match=r"^[0-9a-f]{16}: ") as caught:
            source.fetch(info)
        assert "secret-name" not in str(caught.value)
        assert caught.value.stage == "fetch"

    def test_an_object_that_is_gone_is_an_error_of_that_volume(self) -> None:
        source = self.open_with({"secret-name": b"1"})
        (info,) = source.list_objects()
        self.remove(source, "secret-name")
        with pytest.raises(FetchError, match=r"^[0-9a-f]{16}: the object is gone") as caught:
            source.fetch(info)
        assert "secret-name" not in str(caught.value)

    def test_optional_objects(self) -> None:
        source = self.open_with(OBJECTS)
        assert source.read_optional("participants.tsv") == OBJECTS["participants.tsv"]
        assert source.read_optional("retinal_oct/manifest.tsv") is None
        assert source.read_optional("retinal_oct") is None

    def test_a_key_cannot_leave_the_prefix(self) -> None:
        source = self.open_with({"inside": b"1"})
        with pytest.raises(FetchError):
            source.fetch(ObjectInfo("../outside", -1, ""))
        assert source.read_optional("../outside") is None

    def test_many_threads(self) -> None:
        objects = {f"k{i}": bytes([i]) * (i + 1) for i in range(40)}
        source = self.open_with(objects)
        with ThreadPoolExecutor(8) as pool:
            fetched = list(pool.map(source.fetch, source.list_objects()))
        assert sorted(f.data for f in fetched) == sorted(objects.values())
        assert source.counts.get_requests == 40

    def test_its_name_is_a_text(self) -> None:
        assert self.open_with({}).name
