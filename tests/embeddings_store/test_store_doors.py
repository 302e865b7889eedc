"""Places and spaces that are refused: one message each that says what to do."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_makers import SPACE, WORKER, ReadOnlyStorage, memory_storage

from embeddings_store.errors import StoreError
from embeddings_store.layout import ROOT, StoreLayout, create_layout, load_layout
from embeddings_store.reader import open_reader, reader_on
from embeddings_store.schema import SCHEMA_VERSION
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage, open_storage
from embeddings_store.writer import open_writer, writer_on


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the store .*choose a folder you can write to"):
        open_writer(str(tmp_path / "file" / "store"), SPACE, worker=WORKER)


def test_a_read_only_place_is_one_message() -> None:
    storage = memory_storage()
    with pytest.raises(StoreError, match="cannot write in the store memory://test: permission denied"):
        writer_on(ReadOnlyStorage(storage.url, storage.objects), SPACE, 10, WORKER)
    create_layout(storage, SPACE, 10)
    with pytest.raises(StoreError, match="permission denied"):
        writer_on(ReadOnlyStorage(storage.url, storage.objects), SPACE, 10, WORKER)


def test_reading_where_nothing_lies_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the folder does not exist"):
        open_reader(str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()
    with pytest.raises(StoreError, match="there is no store at"):
        open_reader(str(tmp_path))


@pytest.mark.parametrize("url", ["gs://bucket/x", "http://host/x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="expected a local folder or s3://bucket/prefix"):
        open_storage(url, create=True)


def test_s3_without_credentials_says_where_they_are_looked_for() -> None:
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        open_storage("s3://bucket/x", create=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9}, "has schema version 9, this octprobe reads 2 to 4: update"),
        ({"format": "something"}, "no store of embeddings"),
        ({"capacity": 11}, r"pooled/zarr.json should give the shape \[11, 2, 3, 6\], got \[10, 2, 3, 6\]"),
    ],
)
def test_a_root_document_that_does_not_fit_is_refused(change: dict, message: str) -> None:
    storage = memory_storage()
    create_layout(storage, SPACE, 10)
    document = json.loads(bytes(storage.get(ROOT) or b""))
    document["attributes"] |= change
    storage.put(ROOT, json.dumps(document).encode())
    with pytest.raises(StoreError, match=message):
        reader_on(storage)


def test_two_creators_write_the_same_bytes() -> None:
    first, second = memory_storage(), memory_storage()
    for storage in (first, second):
        create_layout(storage, SPACE, 10)
    paths = sorted(first.list_paths(""))
    assert paths == sorted(second.list_paths(""))
    assert [bytes(first.get(path) or b"") for path in paths] == [bytes(second.get(path) or b"") for path in paths]
    create_layout(memory_storage(), SPACE, 10)
    assert load_layout(first) == StoreLayout(SPACE, 10, SCHEMA_VERSION)


@dataclass(frozen=True, slots=True)
class OvertakenStorage(Storage):
    """Another process makes the store, and starts to write, while this one looks around."""

    def first_paths(self, count: int) -> list[str]:
        writer_on(Storage(self.url, self.objects), SPACE, 10, WORKER)
        return Storage.first_paths(self, count)


def test_a_creator_that_was_overtaken_uses_what_the_other_made() -> None:
    storage = memory_storage()
    assert writer_on(OvertakenStorage(storage.url, storage.objects), SPACE, 20, WORKER).capacity == 10
    with pytest.raises(StoreError, match="holds another embedding space"):
        other = memory_storage()
        writer_on(OvertakenStorage(other.url, other.objects), replace(SPACE, precision="bf16"), 20, WORKER)


values = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner, inner),
)


@given(preset=st.dictionaries(st.text(max_size=4), values, max_size=3))
def test_a_space_equals_itself_after_a_round_trip(preset: dict) -> None:
    space = replace(SPACE, preset=preset)
    again = EmbeddingSpace.from_dict(json.loads(space.to_json()))
    assert again == space
    assert again.id == space.id
    assert again.differences(space) == []


def test_a_space_with_unknown_fields_is_refused() -> None:
    with pytest.raises(StoreError, match="unknown field 'colour'"):
        EmbeddingSpace.from_dict(SPACE.to_dict() | {"colour": 1})
    raw = SPACE.to_dict()
    del raw["pools"]
    with pytest.raises(StoreError, match="expected the field 'pools'"):
        EmbeddingSpace.from_dict(raw)
