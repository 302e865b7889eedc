"""What comes damaged is asked for once more before it is called damaged, and a listing without an end has one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import obstore
import pytest
from store_makers import SPACE, WORKER, make_refs, memory_storage, pooled_of, write_rows

from embeddings_store import storage as storage_module
from embeddings_store.errors import StoreError
from embeddings_store.reader import reader_on
from embeddings_store.snapshot import _gather
from embeddings_store.snapshot_files import put_snapshot
from embeddings_store.snapshot_reading import get_snapshot
from embeddings_store.storage import Storage
from embeddings_store.writer import writer_on

ROWS = 3


@dataclass(frozen=True, slots=True)
class FlippingStorage(Storage):
    """A place whose answers come with one bit flipped, so many times for each path."""

    times: int = 1
    kinds: tuple[str, ...] = (".parquet",)
    flipped: dict[str, int] = field(default_factory=dict)

    def get(self, path: str) -> memoryview | None:
        body = Storage.get(self, path)
        if body is None or not path.endswith(self.kinds) or not self._flips(path):
            return body
        return memoryview(bytes([*body[:-20], body[-20] ^ 1, *body[-19:]]))

    def read_into(self, path: str, target: Any) -> Iterator[Any]:
        flips = self._flips(path)
        for block in Storage.read_into(self, path, target):
            came = block.copy()
            came[:1] ^= flips
            target[: came.size][:1] ^= flips
            yield came

    def _flips(self, path: str) -> bool:
        self.flipped[path] = self.flipped.get(path, 0) + 1
        return self.flipped[path] <= self.times


def filled() -> Storage:
    storage = memory_storage()
    writer = writer_on(storage, SPACE, 10, WORKER)
    writer.add_volumes(make_refs(ROWS))
    write_rows(writer, range(ROWS))
    return storage


def test_a_flip_on_the_way_is_no_damage() -> None:
    whole = filled()
    storage = FlippingStorage(whole.url, whole.objects)
    reader = reader_on(storage)
    assert len(reader.index()) == ROWS
    np.testing.assert_array_equal(reader.pooled(range(ROWS)), np.stack([pooled_of(row) for row in range(ROWS)]))
    assert len(storage.flipped) > ROWS


def test_nor_is_one_in_a_snapshot() -> None:
    whole = filled()
    number = put_snapshot(whole, _gather(reader_on(whole)))
    storage = FlippingStorage(whole.url, whole.objects)
    found = get_snapshot(storage, number)
    np.testing.assert_array_equal(found.pooled, np.stack([pooled_of(row) for row in range(ROWS)]))
    assert any(path.endswith(".parquet") for path in storage.flipped)
    with pytest.raises(StoreError, match="damaged"):
        get_snapshot(FlippingStorage(whole.url, whole.objects, 2), number)


@pytest.mark.parametrize("kind", ["1/zarr.json", "1.crc32c"])
def test_nor_is_one_in_its_documents(kind: str) -> None:
    whole = filled()
    number = put_snapshot(whole, _gather(reader_on(whole)))
    found = get_snapshot(FlippingStorage(whole.url, whole.objects, 1, (kind,)), number)
    np.testing.assert_array_equal(found.pooled, np.stack([pooled_of(row) for row in range(ROWS)]))
    with pytest.raises(StoreError, match="another checksum"):
        get_snapshot(FlippingStorage(whole.url, whole.objects, 2, (kind,)), number)


def test_what_stays_flipped_is() -> None:
    whole = filled()
    with pytest.raises(StoreError, match="damaged"):
        reader_on(FlippingStorage(whole.url, whole.objects, 2)).pooled(range(ROWS))


def test_a_listing_that_goes_round_in_circles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, listed, asked = filled(), obstore.list, []

    def again_and_again(*given: Any, **more: Any) -> Iterator[Any]:
        pages = list(listed(*given, **more))
        while True:
            asked.append(1)
            yield from pages

    monkeypatch.setattr(
        storage_module.obstore, "list", lambda *given, **more: islice(again_and_again(*given, **more), 99)
    )
    for ask in (storage.list_sizes, storage.list_paths, storage.list_times):
        with pytest.raises(StoreError, match=r"goes round in circles: the server gave .* twice"):
            ask("pooled")
    assert len(asked) == 6
