"""The index grows only at its end: properties over any sequence of appends, and two writers that race."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import POOLED_ONLY, WORKER, make_ref, make_refs, memory_storage

from embeddings_store import index as index_module
from embeddings_store.errors import StoreError
from embeddings_store.index import is_other_object, read_index
from embeddings_store.storage import Storage
from embeddings_store.writer import StoreWriter, writer_on


def open_on(storage: Storage) -> StoreWriter:
    return writer_on(storage, POOLED_ONLY, 1000, WORKER)


def row_of_key(storage: Storage) -> dict[str, int]:
    index = read_index(storage)
    return dict(zip(index["key"], index["row"], strict=True))


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=5))
def test_rows_are_dense_unique_and_for_ever(batches: Sequence[Sequence[int]]) -> None:
    writer = open_on(memory_storage())
    before: dict[str, int] = {}
    for batch in batches:
        added = writer.add_volumes([make_ref(number) for number in batch])
        now = row_of_key(writer.storage)
        assert now.keys() == before.keys() | {make_ref(number).key for number in batch}
        assert sorted(now.values()) == list(range(len(now)))
        assert before.items() <= now.items()
        assert added.new == len(now) - len(before)
        before = now


@settings(max_examples=25, deadline=None)
@given(objects=st.lists(st.tuples(st.sampled_from([-1, 5, 6]), st.sampled_from(["", "a", "b"])), min_size=1))
def test_the_last_known_size_and_etag_of_an_object_are_kept(objects: Sequence[tuple[int, str]]) -> None:
    writer = open_on(memory_storage())
    for size, etag in objects:
        writer.add_volumes([make_ref(0, size=size, etag=etag)])
    index = read_index(writer.storage)
    assert index["size"].tolist() == [[-1, *(size for size, _ in objects if size != -1)][-1]]
    assert index["etag"].tolist() == [["", *(etag for _, etag in objects if etag)][-1]]


@pytest.mark.parametrize(
    ("old", "new", "other"),
    [
        ({"size": 5, "etag": "a"}, {"size": 5, "etag": "a"}, False),
        ({"size": 5, "etag": "a"}, {"size": 6, "etag": "a"}, True),
        ({"size": 5, "etag": "a"}, {"size": 5, "etag": "b"}, True),
        ({"size": 5, "etag": "a"}, {"size": -1, "etag": ""}, False),
        ({"size": -1, "etag": ""}, {"size": 5, "etag": "a"}, False),
    ],
)
def test_an_object_is_another_only_by_what_is_known(old: dict, new: dict, other: bool) -> None:
    assert is_other_object(make_ref(0, **old), make_ref(0, **new)) is other


def test_two_racing_writers_never_give_a_row_twice() -> None:
    storage = memory_storage()
    writers = [open_on(storage) for _ in range(4)]
    batches = [[make_ref(number) for number in range(start, start + 20)] for start in (0, 10, 20, 30)]
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda pair: pair[0].add_volumes(pair[1]), zip(writers, batches, strict=True)))
    rows = row_of_key(storage)
    assert sorted(rows.values()) == list(range(50))
    assert sum(one.new for one in added) == 50


def test_segments_that_collide_are_reported_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PATIENCE_S", 0.0)
    writer = open_on(memory_storage())
    writer.add_volumes(make_refs(2))
    (segment,) = writer.storage.list_paths("index")
    body = writer.storage.get(segment)
    assert body is not None
    writer.storage.put("index/000001-0abc.parquet", bytes(body))
    with pytest.raises(StoreError, match="ambiguous: expected segments 1 to 2"):
        writer.missing_rows()


def test_a_damaged_segment_is_named() -> None:
    writer = open_on(memory_storage())
    writer.add_volumes(make_refs(2))
    (segment,) = writer.storage.list_paths("index")
    writer.storage.put(segment, b"not parquet")
    with pytest.raises(StoreError, match=r"index segment 000001-\w+-\w+.parquet of memory://test is damaged"):
        writer.missing_rows()


def test_a_segment_that_is_withdrawn_between_list_and_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader may list the segment of a writer that met another one, and find it gone when it asks for it."""
    writer = open_on(memory_storage())
    writer.add_volumes(make_refs(3))
    names, listed = index_module._segment_names(writer.storage), iter([["000002-1-00000000.parquet"]])
    monkeypatch.setattr(index_module, "_segment_names", lambda storage: [*names, *next(listed, [])])
    assert len(read_index(writer.storage)) == 3


def test_a_segment_that_stays_away_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_on(memory_storage())
    writer.add_volumes(make_refs(3))
    names = index_module._segment_names(writer.storage)
    monkeypatch.setattr(index_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(index_module, "_segment_names", lambda storage: [*names, "000002-1-00000000.parquet"])
    with pytest.raises(StoreError, match="went away while it was read"):
        read_index(writer.storage)
