"""A network that spoils nearly every third answer loses no object, and commits no wrong byte."""

from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from fault_proxy import FAULTS, FaultPlan, fault_proxy
from rclone_server import rclone_s3

from embeddings_store.command_line import parse_words
from embeddings_store.reader import open_reader
from extract.bucket.s3 import PAGE_ATTEMPTS, S3Source
from extract.errors import BucketError
from extract.options import ExtractOptions
from extract.pipeline import extract

RATE = 0.3
STREAMS = 16
ALWAYS = ("cut", "reset", "500", "length", "flip")
PATIENCE_S = (
    2.0  # of the source, in place of half a minute: a busy machine answers later than a quick one, HELD_S never
)

Run = Callable[[FaultPlan], dict[str, Any]]
Make = Callable[[int], dict[str, Path]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.bucket.s3.READ_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("extract.bucket.body.PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("extract.bucket.gate.LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


@pytest.fixture
def make(tmp_path: Path, command: Command) -> Make:
    """Write a bucket of so many participants (8 volumes each); give the volumes' files by key."""

    def write(participants: int) -> dict[str, Path]:
        eye = tmp_path / "buckets/eye"
        done = command("oct-phantom", "--out", eye, "--participants", participants, "--scale", "0.03", "--workers", 1)
        assert done.code == 0, done.stderr
        return {path.relative_to(eye).as_posix(): path for path in sorted(eye.rglob("*.dcm"))}

    return write


@pytest.fixture
def run(tmp_path: Path, s3_credentials: Callable[[str, str], None]) -> Iterator[Run]:
    """Extract the bucket through a faulty network; give the run's summary."""

    def extract_through(plan: FaultPlan) -> dict[str, Any]:
        with rclone_s3(tmp_path / "buckets") as (server, *keys), fault_proxy(server, plan) as endpoint:
            s3_credentials(*keys)
            usual = {"encoder": "random:tiny", "image_size": "16,48,48", "tokens": "none", "streams": STREAMS}
            return extract(
                parse_words(ExtractOptions, bucket="eye", endpoint_url=endpoint, store=str(tmp_path / "store"), **usual)
            )

    yield extract_through


def committed_md5s(store: Path) -> dict[str, bytes]:
    """What each committed row says of its source, by key."""
    reader = open_reader(str(store))
    keys, commits = reader.index()["key"], reader.commits()
    halves = zip(commits.index, commits["source_md5_high"], commits["source_md5_low"], strict=True)
    return {keys[row]: b"".join(int(half).to_bytes(8, "big", signed=True) for half in pair) for row, *pair in halves}


def md5s(files: dict[str, Path]) -> dict[str, bytes]:
    return {key: md5(path.read_bytes(), usedforsecurity=False).digest() for key, path in files.items()}


def show(plan: FaultPlan, summary: dict[str, Any], files: dict[str, Path]) -> None:
    whole = sum(path.stat().st_size for path in files.values())
    print(
        f"{len(files)} volumes; {plan.requests} requests reached the network, of which {dict(plan.injected)}; "
        f"{summary['get_requests']} counted, {summary['retries']} retries; "
        f"{plan.body_bytes - whole:,} bytes beyond the {whole:,} of the volumes; {summary['seconds']}"
    )


@pytest.mark.s3
def test_every_object_is_committed_once_with_its_own_bytes(tmp_path: Path, make: Make, run: Run) -> None:
    files, plan = make(38), FaultPlan(seed=5, rate=RATE)
    summary = run(plan)
    show(plan, summary, files)
    assert summary["errors"] == {}
    assert summary["committed"] == summary["selected"] == len(files) == 304
    assert committed_md5s(tmp_path / "store") == md5s(files)
    index = open_reader(str(tmp_path / "store")).index()
    assert sorted(index["key"]) == sorted(files), "each key has one row"
    assert set(plan.injected) == {"none", *FAULTS}
    assert summary["get_requests"] == plan.requests
    assert summary["retries"] == plan.requests - len(files) - 2, "participants.tsv and manifest.tsv are fetched, too"


@pytest.mark.s3
@pytest.mark.parametrize("fault", ["cut", "nothing", "reset", "500", "503"])
def test_a_listing_that_breaks_off_is_asked_for_again(
    tmp_path: Path, s3_credentials: Callable[[str, str], None], fault: str
) -> None:
    keys = [f"k{number:03d}" for number in range(60)]
    for key in keys:
        (tmp_path / "buckets/eye").mkdir(parents=True, exist_ok=True)
        (tmp_path / "buckets/eye" / key).write_bytes(b"x")
    plan = FaultPlan(seed=8, rate=0.0, listings=[fault] * 3)
    with rclone_s3(tmp_path / "buckets") as (server, *secrets), fault_proxy(server, plan) as endpoint:
        s3_credentials(*secrets)
        source = S3Source("eye", endpoint_url=endpoint)
        listed = [info.key for info in source.list_objects()]
    assert listed == keys
    assert plan.list_requests == source.counts.list_requests == 4
    assert source.counts.retries == 3


@pytest.mark.s3
@pytest.mark.parametrize("fault", ["cut", "nothing"])
def test_a_listing_that_never_comes_whole_stops_the_run(
    tmp_path: Path, s3_credentials: Callable[[str, str], None], fault: str
) -> None:
    (tmp_path / "buckets/eye").mkdir(parents=True)
    (tmp_path / "buckets/eye/k").write_bytes(b"x")
    plan = FaultPlan(seed=8, rate=0.0, listings=[fault] * 100)
    with rclone_s3(tmp_path / "buckets") as (server, *secrets), fault_proxy(server, plan) as endpoint:
        s3_credentials(*secrets)
        with pytest.raises(BucketError, match="again and again"):
            list(S3Source("eye", endpoint_url=endpoint).list_objects())
    assert plan.list_requests >= PAGE_ATTEMPTS


@pytest.mark.s3
def test_what_never_comes_whole_is_an_error_row_and_nothing_else_is(tmp_path: Path, make: Make, run: Run) -> None:
    files = make(10)
    spoiled = dict(zip(list(files)[::16], ALWAYS, strict=True))
    plan = FaultPlan(seed=6, rate=RATE, permanent=spoiled)
    summary = run(plan)
    show(plan, summary, files)
    assert summary["errors"] == {"FetchError": len(ALWAYS)}
    store = open_reader(str(tmp_path / "store"))
    failed = {store.index()["key"][record.row]: record.failure for record in store.errors()}
    assert failed.keys() == spoiled.keys()
    assert {(failure.stage, failure.error) for failure in failed.values()} == {("fetch", "FetchError")}
    assert committed_md5s(tmp_path / "store") == {key: md5 for key, md5 in md5s(files).items() if key not in spoiled}


REFUSALS = (
    ("AccessDenied", "Cannot download file, download bandwidth or transaction (Class B) cap exceeded."),
    ("AccessDenied", "No words that anybody knows."),
    ("ExpiredToken", "The provided token has expired."),
    ("SomethingNew", "Come back tomorrow."),
)


@pytest.mark.s3
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_of_all_leaves_no_error_row_and_the_same_command_goes_on(
    tmp_path: Path, make: Make, run: Run, refusal: tuple[str, str]
) -> None:
    files = make(3)
    with pytest.raises(BucketError) as caught:
        run(FaultPlan(seed=7, rate=0.0, refuse_after=12, refusal=refusal))
    assert f'the server says: "{refusal[1]}"' in str(caught.value)
    assert list(open_reader(str(tmp_path / "store")).errors()) == []
    summary = run(FaultPlan(seed=7, rate=0.0))
    assert (summary["committed"], summary["errors"]) == (len(files), {})
