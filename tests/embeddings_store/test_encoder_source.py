"""Where an encoder came from: kept once beside the space, told everywhere, and never part of the id."""

from dataclasses import replace
from pathlib import Path

import pytest

from embeddings_store.encoder_source import PATH, EncoderSource, read_encoder_source, record_encoder_source
from embeddings_store.errors import StoreError
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from embeddings_store.status import store_status
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer
from tests.embeddings_store.store_makers import SPACE, WORKER, make_refs, write_rows

SOURCE = EncoderSource("vjepa.pt", "vjepa3d", SPACE.weights_sha256, 12, "trained", "the weights have moved")


@pytest.fixture
def url(tmp_path: Path) -> str:
    writer = open_writer(str(tmp_path / "store"), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(2))
    write_rows(writer, [0, 1])
    return writer.storage.url


def test_a_store_without_it_is_read_and_a_later_run_may_add_it(url: str) -> None:
    reader = open_reader(url)
    assert store_status(reader)["encoder"] is None
    assert read_features_source(url).encoder is None
    record_encoder_source(reader.storage, SOURCE)
    assert store_status(open_reader(url))["encoder"] == SOURCE.to_record()
    assert read_features_source(url).encoder == SOURCE
    assert open_reader(url).space_id == SPACE.id


def test_a_damaged_or_foreign_record_is_named(url: str) -> None:
    storage = open_reader(url).storage
    record_encoder_source(storage, SOURCE)
    assert verify_store(url)["damaged_files"] == {}
    body = bytes(storage.get(PATH) or b"")
    storage.put(PATH, body.replace(b"vjepa.pt", b"other.pt"))
    assert list(verify_store(url)["damaged_files"]) == [PATH]
    with pytest.raises(StoreError, match="checksum is another"):
        read_encoder_source(storage, SPACE)
    record_encoder_source(storage, SOURCE)
    with pytest.raises(StoreError, match="other weights"):
        read_encoder_source(storage, replace(SPACE, weights_sha256="b" * 64))
