"""A store is input: whatever its documents say, a command ends in one line, soon, and without much memory."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_makers import FAILURE, SPACE, WORKER, make_refs, write_rows

from embeddings_store.checksums import checksum_list
from embeddings_store.encoder_source import EncoderSource, record_encoder_source
from embeddings_store.errors import OctProbeError
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source, read_snapshot, write_snapshot
from embeddings_store.status import store_status
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer

SECONDS = 30  # of a machine under load; what this guards against never ends

DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**12, 10**30, "", "x", "x" * 10_000, [], [1], [10**12] * 3, [None], {}, {"a": {}}, [[[]]],
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile") / "store"
    writer = open_writer(str(place), SPACE, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(3))
    write_rows(writer, range(2))
    writer.write_error(2, FAILURE)
    record_encoder_source(writer.storage, EncoderSource("x.pt", SPACE.family, SPACE.weights_sha256, 1, "trained", ""))
    write_snapshot(str(place))
    return place


USES: dict[str, Callable[[str], object]] = {
    "status": lambda url: store_status(open_reader(url)),
    "verify": verify_store,
    "read_snapshot": read_snapshot,
    "features": read_features_source,
    "errors": lambda url: open_reader(url).errors(),
}


def use(url: str) -> Iterator[tuple[str, BaseException | None]]:
    """Use a store in every way that reads; give the error of each, None where there was none."""
    for name, call in USES.items():
        start = time.monotonic()
        try:
            call(url)
        except OctProbeError as error:
            assert len(str(error)) < 2000
            yield name, error
        else:
            yield name, None
        assert time.monotonic() - start < SECONDS


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Name every place in a document."""
    if path:
        yield path
    listed = dict(enumerate(document)) if isinstance(document, list) else document
    for name, value in listed.items() if isinstance(listed, dict) else ():
        yield from leaves(value, (*path, name))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copy


@pytest.mark.parametrize("file", ["zarr.json", "encoder.json", "errors/2.json"])
def test_no_value_of_a_document_ends_in_a_traceback(made: Path, file: str) -> None:
    whole = (made / file).read_bytes() if (made / file).exists() else b"{}"
    document = json.loads(whole)
    tried = 0
    try:
        for number, path in enumerate(leaves(document)):
            for value in (HOSTILE[(number + shift) % len(HOSTILE)] for shift in (0, 5, 10)):
                changed_document = changed(document, path, value)
                changed_document.pop("crc32c", None)
                (made / file).write_text(json.dumps(changed_document))
                for _ in use(str(made)):
                    tried += 1
    finally:
        (made / file).write_bytes(whole)
    assert tried >= len(USES)
    assert all(error is None for _, error in use(str(made)))


def test_no_value_of_a_snapshot_ends_in_a_traceback(made: Path) -> None:
    root, sums = made / "snapshots" / "1" / "zarr.json", made / "snapshots" / "1.crc32c"
    whole, listed = root.read_bytes(), sums.read_bytes()
    document, refused = json.loads(whole), 0
    names = [line.split("  ")[1] for line in listed.decode().splitlines()[:-1]]
    others = {name: (made / "snapshots" / name).read_bytes() for name in names}
    try:
        for number, path in enumerate(leaves(document)):
            if number % 7 and not {"shape", "chunk_shape", "space"} & set(path):
                continue
            for value in (HOSTILE[(number + shift) % len(HOSTILE)] for shift in (0, 9)):
                body = json.dumps(changed(document, path, value)).encode()
                root.write_bytes(body)
                sums.write_bytes(checksum_list(others | {"1/zarr.json": body}))
                try:
                    read_snapshot(str(made))
                except OctProbeError:
                    refused += 1
    finally:
        root.write_bytes(whole)
        sums.write_bytes(listed)
    assert refused > 20
    assert read_snapshot(str(made)).number == 1


@pytest.mark.parametrize("body", [DEEP.encode(), b"{" + b'"a":{' * 50_000, b'{"attributes": 1' + b"0" * 5000 + b"}",
                                  b"", b"null", b"[]", b"\xff\xfe", b'{"attributes": NaN}', b"{" * 10])  # fmt: skip
@pytest.mark.parametrize("file", ["zarr.json", "errors/2.json", "encoder.json", "workers/9.json"])
def test_no_document_ends_in_a_traceback(made: Path, file: str, body: bytes) -> None:
    before = (made / file).read_bytes() if (made / file).exists() else None
    (made / file).write_bytes(body)
    try:
        assert any(error is not None for _, error in use(str(made))) or verify_store(str(made))["damaged_files"]
    finally:
        if before is None:
            (made / file).unlink()
        else:
            (made / file).write_bytes(before)
