"""ETags that are no md5 are noted with each volume, and the note stays: in the store, its status and its snapshot."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from lesser_server import Behaviour, lesser_server
from small_bucket import fill_bucket, options

from embeddings_store.reader import open_reader
from embeddings_store.schema import Note
from embeddings_store.snapshot import read_features_source
from embeddings_store.status import store_status
from extract.pipeline import extract

VOLUMES = 4


def other_etag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:32]}"'


def test_the_note_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_credentials: Callable[..., None]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.0)
    s3_credentials("testkey", "verysecretverysecret")
    bucket, store = fill_bucket(tmp_path / "bucket", VOLUMES), tmp_path / "store"
    objects = {str(path.relative_to(bucket)): path.read_bytes() for path in bucket.rglob("*.dcm")}
    with lesser_server(Behaviour(objects, etag=other_etag)) as endpoint:
        for _ in range(2):  # the second run finds nothing to do, and changes nothing
            asked = options(Path("eye"), store, endpoint_url=endpoint, partial_reads="off")
            extract(asked)
            reader = open_reader(str(store))
            notes = reader.facts(range(VOLUMES))["notes"].astype(int)
            assert (notes & int(Note.ETAG_IS_NO_MD5)).astype(bool).all()
    assert (store_status(reader)["committed"], store_status(reader)["errors"]) == (VOLUMES, 0)
    found = read_features_source(str(store))
    assert (found.index["notes"].astype(int) & int(Note.ETAG_IS_NO_MD5)).astype(bool).all()
    assert len(set(found.md5.values())) == VOLUMES, "the md5 of what came is known all the same"
