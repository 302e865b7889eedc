"""What every source of objects must do; each implementation inherits these tests."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5

import pytest

from extract.bucket.source import ObjectInfo, RangeRefused, RangeSource, Source
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

    def test_lists_one_folder_alone_and_counts_nothing_anew(self) -> None:
        source = self.open_with({"a/b/1": b"1", "a/b/c/2": b"2", "a/bc/3": b"3", "4": b"4"})
        list(source.list_objects())
        before = dict(source.counts.passed_over)
        assert sorted(info.key for info in source.list_objects("a/b/")) == ["a/b/1", "a/b/c/2"]
        assert source.counts.passed_over == before

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


class RangeContract(SourceContract):
    """The same for a source that gives ranges, too."""

    @abstractmethod
    def open_with(self, objects: Mapping[str, bytes]) -> RangeSource:
        """Open a source that holds exactly these objects below its prefix."""

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 5), (3, 700), (255, 256 * 5000), (1_279_000, 1_300_000)])
    @pytest.mark.parametrize("known", [True, False])
    def test_fetches_a_range(self, start: int, stop: int, known: bool) -> None:
        source, key = self.open_with(OBJECTS), "retinal_oct/a/1.dcm"
        listed = next(info for info in source.list_objects() if info.key == key)
        found = source.fetch_range(listed if known else ObjectInfo(key, -1, ""), start, stop)
        assert found.data == OBJECTS[key][start:stop]
        assert (found.start, found.size, found.etag) == (start, listed.size, listed.etag)
        assert (source.counts.get_requests, source.counts.retries) == (1, 0)
        assert source.counts.bytes == len(found.data)

    def test_a_range_of_an_empty_object_has_no_bytes_or_is_refused(self) -> None:
        source = self.open_with({"empty": b""})
        try:
            found = source.fetch_range(ObjectInfo("empty", -1, ""), 0, 100)
        except RangeRefused:
            return
        assert (found.data, found.size) == (b"", 0)

    @pytest.mark.parametrize("start", [0, 1])
    def test_a_range_of_a_changed_object_is_an_error_of_that_volume(self, start: int) -> None:
        source = self.open_with({"secret-name": b"123"})
        (info,) = source.list_objects()
        self.replace(source, "secret-name", b"4567")
        with pytest.raises(FetchError, match=r"^[0-9a-f]{16}: ") as caught:
            source.fetch_range(info, start, 3)
        assert "secret-name" not in str(caught.value)

    def test_a_range_of_an_object_that_is_gone(self) -> None:
        source = self.open_with({"secret-name": b"123"})
        (info,) = source.list_objects()
        self.remove(source, "secret-name")
        with pytest.raises(FetchError, match=r"^[0-9a-f]{16}: the object is gone"):
            source.fetch_range(info, 0, 3)
        with pytest.raises(FetchError):
            source.fetch_range(ObjectInfo("../outside", -1, ""), 0, 3)
