"""docs/store-format.md is enough to read a store: a reader written from it agrees with the library."""

import hashlib
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from markdown_pages import ROOT
from reader_from_text import Store, crc32c

from embeddings_store.pack import pack_store
from embeddings_store.reader import open_reader
from embeddings_store.schema import (
    COMMIT_COLUMNS,
    Eye,
    Note,
    ParticipantId,
    RowFacts,
    VolumeFailure,
    VolumeRef,
    volume_id,
)
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.writer import open_writer

SPACE = EmbeddingSpace(
    family="vjepa3d", weights_sha256="b" * 64, image_size=(8, 32, 48), patch=(4, 16, 16), width=5, depth=2, heads=1,
    preset={"name": "größer", "clip": (1, 99)}, layers=("1", "last"), pools=("mean", "std"), token_grid=(2, 2, 3),
    precision="fp32",
)  # fmt: skip
ROWS, FAILED = 3, 3


def ref(number: int, etag: str = "") -> VolumeRef:
    key = f"structural_oct/topcon_triton/100{number}/scan_{number}.dcm"
    person = ParticipantId(f"100{number}")
    return VolumeRef(key, 10 + number, etag, volume_id(key), person, Eye.LEFT, "topcon_triton", "mac")


@pytest.fixture(params=["float16", "int8"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    writer = open_writer(str(folder), replace(SPACE, token_dtype=request.param), worker={"device": "cpu"})
    writer.add_volumes([ref(number) for number in range(ROWS + 1)])
    writer.add_volumes([ref(1, etag="ab" * 16)])
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        vectors = rng.normal(size=(2, 2, 5)).astype(np.float32)
        tokens = {layer: rng.normal(size=(2, 2, 3, 5)).astype(np.float16) for layer in SPACE.layers}
        facts = RowFacts(8, 32, 48, (0.1, 0.004, 0.01), Eye.LEFT, Note.SYNTHETIC)
        picture = rng.integers(0, 256, (8, 32, 32), dtype=np.uint8) if row else None
        writer.write_row(row, vectors, tokens, facts, hashlib.md5(bytes([row])).digest(), 10 + row, picture)
    writer.write_error(FAILED, VolumeFailure("decode", "NotDicom", "schön", 1))
    write_snapshot(str(folder))
    return folder


def test_rows_vectors_tokens_and_facts_agree(place: Path) -> None:
    text, library = Store(place), open_reader(str(place))
    assert text.rows() == np.flatnonzero(library.committed()).tolist() == list(range(ROWS))
    for row in text.rows():
        assert text.is_whole(row)
        np.testing.assert_array_equal(text.pooled(row), library.pooled([row])[0])
        np.testing.assert_array_equal(text.facts(row), library.facts([row]).to_numpy()[0])
        np.testing.assert_array_equal(text.tokens(row, "last"), library.tokens(row, "last"))
        picture, known = text.thumbnail(row), library.thumbnails([row])
        assert (picture is not None) == known.all_known == (row > 0)
        np.testing.assert_array_equal(0 if picture is None else picture, known.images[0])
        assert text.source_md5(row) == hashlib.md5(bytes([row])).hexdigest()


def test_packed_rows_agree_and_a_dropped_one_is_gone(place: Path) -> None:
    pack_store(str(place))
    assert not list((place / "pooled").glob("c.*"))
    test_rows_vectors_tokens_and_facts_agree(place)
    storage = open_reader(str(place)).storage
    storage.delete("commit/c.1.0")
    assert Store(place).rows() == np.flatnonzero(open_reader(str(place)).committed()).tolist() == [0, 2]


def test_the_index_agrees(place: Path) -> None:
    lines, index = Store(place).index(), open_reader(str(place)).index()
    assert list(lines) == index["row"].tolist()
    for name in ("key", "size", "etag", "volume", "participant", "eye", "device", "protocol"):
        assert [line[name] for line in lines.values()] == index[name].tolist()
    assert lines[1]["etag"] == "ab" * 16
    assert lines[2]["volume"] == hashlib.sha256(lines[2]["key"].encode()).hexdigest()[:16]


def test_sums_of_records_and_documents_hold(place: Path) -> None:
    text = Store(place)
    assert text.listed_documents("layout.crc32c")
    assert text.listed_documents("snapshots/1.crc32c", "snapshots")
    assert text.seal_holds(f"errors/{FAILED}.json")
    assert text.seal_holds(f"workers/{text.commit(0)[7]}.json")


def test_a_snapshot_holds_the_rows(place: Path) -> None:
    assert (place / "LATEST").read_text().strip() == "1"
    pooled = read_snapshot(str(place), 1).pooled
    np.testing.assert_array_equal(pooled, [Store(place).pooled(row) for row in range(ROWS)])


def test_a_flipped_byte_is_seen(place: Path) -> None:
    chunk = place / "pooled" / "c.1.0.0.0"
    body = bytearray(chunk.read_bytes())
    body[3] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(AssertionError):
        Store(place).pooled(1)


def test_the_text_names_every_note_and_column() -> None:
    text = (ROOT / "docs" / "store-format.md").read_text()
    notes = text[text.index("Notes: ") : text.index("**`commit`**")]
    assert [int(bit) for bit in re.findall(r"\b(\d+) [a-zM]", notes)] == [note.value for note in Note if note]
    assert text.count("\n| ", text.index("**`commit`**"), text.index("## 6.")) - 1 == len(COMMIT_COLUMNS) - 1
    assert {f"`{field.name}`" for field in fields(EmbeddingSpace)} <= set(re.findall(r"`\w+`", text))


def test_the_sum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
