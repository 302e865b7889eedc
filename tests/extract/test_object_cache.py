"""The local cache of raw objects: a source like any other, bounded, and never wrong."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from source_contract import SourceContract

from embeddings_store.errors import UsageError
from embeddings_store.storage import BLOCK_BYTES
from extract.bucket.folder import FolderSource
from extract.bucket.object_cache import MD5_BYTES, CachedSource
from extract.bucket.source import ObjectInfo, Source

OBJECT_BYTES = 100


def write(root: Path, key: str, data: bytes) -> None:
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    (root / key).write_bytes(data)


class TestContract(SourceContract):
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path) -> None:
        self.root, self.cache = tmp_path / "bucket", tmp_path / "cache"

    def open_with(self, objects: Mapping[str, bytes]) -> Source:
        self.root.mkdir(exist_ok=True)
        for key, data in objects.items():
            write(self.root, key, data)
        return CachedSource(FolderSource(self.root), self.cache, limit_bytes=10**9, place="here")

    def replace(self, source: Source, key: str, data: bytes) -> None:
        write(self.root, key, data)

    def remove(self, source: Source, key: str) -> None:
        (self.root / key).unlink()


@pytest.fixture
def bucket(tmp_path: Path) -> FolderSource:
    for number in range(6):
        write(tmp_path / "bucket", f"k{number}", bytes([number]) * OBJECT_BYTES)
    return FolderSource(tmp_path / "bucket")


def cached(bucket: FolderSource, folder: Path, objects: float = 100, place: str = "here") -> CachedSource:
    return CachedSource(bucket, folder, limit_bytes=int(objects * (OBJECT_BYTES + MD5_BYTES)), place=place)


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_second_fetch_asks_for_nothing(bucket: FolderSource, tmp_path: Path) -> None:
    infos = list(bucket.list_objects())
    first = [cached(bucket, tmp_path / "c").fetch(info) for info in infos]
    second = [cached(bucket, tmp_path / "c").fetch(info) for info in infos]
    assert first == second
    assert bucket.counts.get_requests == len(infos)


def test_an_object_larger_than_one_write_is_kept_whole(bucket: FolderSource, tmp_path: Path) -> None:
    write(tmp_path / "bucket", "k0", os.urandom(2 * BLOCK_BYTES + 5))
    info = next(iter(bucket.list_objects()))
    first, second = (CachedSource(bucket, tmp_path / "c", limit_bytes=10**8, place="here").fetch(info) for _ in "ab")
    assert first == second
    assert bucket.counts.get_requests == 1


def test_another_place_or_etag_is_another_object(bucket: FolderSource, tmp_path: Path) -> None:
    info = next(iter(bucket.list_objects()))
    cached(bucket, tmp_path / "c").fetch(info)
    cached(bucket, tmp_path / "c", place="there").fetch(info)
    cached(bucket, tmp_path / "c").fetch(ObjectInfo(info.key, info.size, ""))
    assert bucket.counts.get_requests == 3


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"!", lambda b: b"", lambda b: b + b"more"])
def test_a_damaged_file_is_fetched_again(bucket: FolderSource, tmp_path: Path, damage: object) -> None:
    info = next(iter(bucket.list_objects()))
    source = cached(bucket, tmp_path / "c")
    whole = source.fetch(info)
    (path,) = (tmp_path / "c").iterdir()
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert source.fetch(info) == whole
    assert source.fetch(info) == whole
    assert bucket.counts.get_requests == 2


def test_it_stays_within_its_size_and_forgets_the_least_recently_used(bucket: FolderSource, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    source = cached(bucket, folder, objects=3)
    infos = list(bucket.list_objects())
    for number, info in enumerate(infos[:3]):
        known = set(folder.iterdir())
        source.fetch(info)
        (new,) = set(folder.iterdir()) - known
        os.utime(new, ns=(number, number))
    source.fetch(infos[0])  # used again: now the most recent one
    source.fetch(infos[3])
    assert held(folder) <= 3 * (OBJECT_BYTES + MD5_BYTES)
    before = bucket.counts.get_requests
    source.fetch(infos[0])
    assert bucket.counts.get_requests == before
    source.fetch(infos[1])
    assert bucket.counts.get_requests == before + 1
    for info in infos * 3:
        source.fetch(info)
        assert held(folder) <= 3 * (OBJECT_BYTES + MD5_BYTES)


def test_an_object_larger_than_the_cache_passes_through(bucket: FolderSource, tmp_path: Path) -> None:
    source = cached(bucket, tmp_path / "c", objects=0.5)
    source.fetch(next(iter(bucket.list_objects())))
    assert held(tmp_path / "c") == 0


def test_a_write_that_fails_costs_nothing(
    bucket: FolderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cached(bucket, tmp_path / "c")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("extract.bucket.object_cache.Path.replace", full)
    assert len(source.fetch(next(iter(bucket.list_objects()))).data) == OBJECT_BYTES
    assert list((tmp_path / "c").iterdir()) == []


def test_a_folder_that_is_none(bucket: FolderSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="--cache-dir"):
        cached(bucket, tmp_path / "file")
