"""ETags that are no md5 are noted with each volume, and the note stays: in the store, its status and its snapshot."""

from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path

import pytest
from lesser_server import Behaviour, lesser_server, md5_etag
from small_bucket import fill_bucket, options

from embeddings_store.reader import open_reader
from embeddings_store.schema import Note
from embeddings_store.snapshot import read_features_source
from embeddings_store.status import store_status
from extract.pipeline import extract

VOLUMES = 4
EITHER = int(Note.ETAG_IS_NO_MD5 | Note.MD5_UNCHECKED)


def other_etag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:32]}"'


def multipart_etag(data: bytes) -> str:
    return f'"{md5(data, usedforsecurity=False).hexdigest()}-2"'


def no_etag(_: bytes) -> str:
    return ""


@pytest.mark.parametrize(
    ("etag", "note"),
    [
        (other_etag, Note.ETAG_IS_NO_MD5),
        (multipart_etag, Note.MD5_UNCHECKED),
        (no_etag, Note.MD5_UNCHECKED),
        (md5_etag, Note.NONE),
    ],
)
def test_the_note_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    s3_credentials: Callable[..., None],
    etag: Callable[[bytes], str],
    note: Note,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.0)
    s3_credentials("testkey", "verysecretverysecret")
    bucket, store = fill_bucket(tmp_path / "bucket", VOLUMES), tmp_path / "store"
    objects = {str(path.relative_to(bucket)): path.read_bytes() for path in bucket.rglob("*.dcm")}
    with lesser_server(Behaviour(objects, etag=etag)) as endpoint:
        for _ in range(2):  # the second run finds nothing to do, and changes nothing
            asked = options(Path("eye"), store, endpoint_url=endpoint, partial_reads="off")
            extract(asked)
            reader = open_reader(str(store))
            assert (reader.facts(range(VOLUMES))["notes"].astype(int) & EITHER == int(note)).all()
    assert (store_status(reader)["committed"], store_status(reader)["errors"]) == (VOLUMES, 0)
    found = read_features_source(str(store))
    assert (found.index["notes"].astype(int) & EITHER == int(note)).all()
    assert len(set(found.md5.values())) == VOLUMES, "the md5 of what came is known all the same"
