"""Credentials are used, and then they are nowhere: no output, no record, no traceback, no process list."""

import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Command
from rclone_server import rclone_s3

from extract.bucket.s3 import S3Source
from extract.errors import BucketError

WRONG = "wrongwrongwrongwrong"
SCRIPT = Path(sys.executable).parent / "extract-embeddings"

Keys = tuple[str, str, str]


@pytest.fixture
def served(tmp_path: Path, command: Command, s3_credentials: Callable[[str, str], None]) -> Iterator[Keys]:
    """Endpoint, key and secret of a server with a small bucket, a broken file in it."""
    done = command(
        *("oct-phantom", "--out", tmp_path / "buckets/eye", "--participants", 1, "--scale", "0.03", "--workers", 1),
        *("--devices", "topcon_triton", "--syntax", "j2k", "--break", "truncated-encapsulated"),
    )
    assert done.code == 0, done.stderr
    with rclone_s3(tmp_path / "buckets") as keys:
        s3_credentials(*keys[1:])
        yield keys


def arguments(served: Keys, store: Path) -> list[str]:
    return ["--bucket", "eye", "--endpoint-url", served[0], "--store", str(store), "--encoder", "random:tiny"]


def files_with(text: str, folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and "buckets" not in path.parts]
    return [path for path in files if text.encode() in path.read_bytes()]


@pytest.mark.s3
def test_no_output_no_record_and_no_log_holds_them(
    tmp_path: Path, served: Keys, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = tmp_path / "store"
    done = command("extract-embeddings", *arguments(served, store), "--cache-dir", tmp_path / "objects", "--json")
    told = command("extract-embeddings", "status", "--store", store, "--json")
    assert done.code == 3, done.stderr
    assert done.json["committed"] > 0
    for secret in served[1:]:
        for text in (done.stdout, done.stderr, told.stdout, told.stderr, caplog.text):
            assert secret not in text
        assert files_with(secret, tmp_path) == [], "store, catalogue, cache"


@pytest.mark.s3
def test_no_traceback_holds_them(served: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG)
    with pytest.raises(BucketError) as caught:
        list(S3Source("eye", endpoint_url=served[0]).list_objects())
    told = "".join(traceback.format_exception(caught.value))
    assert "credentials are refused" in told
    for secret in (WRONG, served[1], served[2]):
        assert secret not in told


@pytest.mark.s3
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_no_process_shows_them(tmp_path: Path, served: Keys) -> None:
    line = [SCRIPT, *arguments(served, tmp_path / "store")]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[bytes] = set()  # every state of every process: one that ends shows an empty line last
    while process.poll() is None:
        for pid in (process.pid, *children_of(process.pid)):
            try:
                seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
    assert process.returncode == 3
    assert any(b"decoder_process" in command for command in seen), "its children were seen, too"
    for secret in served[1:]:
        assert not [command for command in seen if secret.encode() in command]


def children_of(parent: int) -> list[int]:
    """List what any of its threads started."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            found += [int(pid) for pid in children.read_text().split()]
        except OSError:
            continue
    return found


@pytest.mark.s3
@pytest.mark.parametrize("refused", [{"IfNoneMatch": "*"}, {"ChecksumAlgorithm": "SHA256"}])
def test_the_guard_is_on_in_front_of_the_real_server(served: Keys, refused: dict[str, str]) -> None:
    source = S3Source("eye", endpoint_url=served[0])
    source.client.put_object(Bucket="eye", Key="allowed", Body=b"1")
    with pytest.raises(AssertionError):
        source.client.put_object(Bucket="eye", Key="refused", Body=b"1", **refused)
