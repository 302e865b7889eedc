"""A secret in an address is refused wherever it is typed, before anything can quote it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from classify.options import ProbeOptions
from embeddings_store.addresses import holds_credentials
from embeddings_store.command_line import parse_words
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.storage import open_storage
from finetune.options import FinetuneOptions
from reports.options import StudyOptions, TrackOptions

SECRET = "hushhush"
REFUSED = (
    f"s3://key:{SECRET}@bucket", f"s3:/key:{SECRET}@bucket", f"s3:///key:{SECRET}@bucket", f"S3://key:{SECRET}@b/x",
    f"oct=s3://key:{SECRET}@bucket", f"s3://key:{SECRET}/more@bucket", f"s3://key:{SECRET}+=/x@bucket",
    f"https://{SECRET}@host", f"key:{SECRET}@host:9000", f"//key:{SECRET}@host", f"a=key:{SECRET}@host",
    f"https://host/x?password={SECRET}", f"s3://b/x?X-Amz-Security-Token={SECRET}", f"s3:/b/x?X-Amz-Signature={SECRET}",
    f"https://host/x?a=1&AWSAccessKeyId={SECRET}", f"http://host/#access_token={SECRET}", f"http://h/?sig={SECRET}",
    f"http://key%3A{SECRET}%40host", f"http://key%253A{SECRET}%2540host", f"http:\\\\key:{SECRET}@host",
    f"postgresql://key:{SECRET}@host/db", f"runs/s3:/key:{SECRET}@bucket", f"https://host/x?api_key={SECRET}",
)  # fmt: skip
TAKEN = (
    "store", "a/b@home", "/data/me@site/store", "s3://bucket/prefix@x", "http://[::1]:9000", "http://localhost:9000/x",
    "host:9000", "oct=s3://bucket/x", "sqlite:///mlflow.db", "sqlite:////data/me@site/m.db", "file:///data/me@site",
    "file:/data/me@site", "onnx:model@2.onnx", "random:tiny,seed=1", "C:/x", "a table of 12:30, see me@site",
    "s3://bucket/x?versionId=3", "arn:aws:s3:eu-west-1:123456789012:accesspoint/x", "databricks", "",
)  # fmt: skip


def test_what_holds_credentials_is_known_and_nothing_else_is() -> None:
    assert [word for word in REFUSED if not holds_credentials(word)] == []
    assert [word for word in TAKEN if holds_credentials(word)] == []


def makers_of(secret: str | Path) -> tuple[Callable[[], object], ...]:
    """Put a word into options of every kind."""
    return (
        lambda: ProbeOptions(model="linear", store=str(secret), participants=Path("p")),
        lambda: ProbeOptions(model="linear", store="s", participants=Path(secret)),
        lambda: parse_words(ProbeOptions, model="linear", store=["a=s", str(secret)], participants="p"),
        lambda: parse_words(ProbeOptions, model="linear", store="s", participants="p", seeds=str(secret)),
        lambda: StudyOptions(store="s", runs=Path(secret), out=Path("o")),
        lambda: StudyOptions(store="s", runs=Path("r"), out=Path(secret)),
        lambda: TrackOptions(runs=Path("r"), tracking_uri=str(secret)),
        lambda: FinetuneOptions(bucket="b", encoder="random:tiny", participants=Path("p"), cache_dir=Path(secret)),
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_no_option_takes_them(kind: type) -> None:
    for word in REFUSED:
        for make in makers_of(kind(word)):
            with pytest.raises(UsageError) as refused:
                make()
            assert SECRET not in str(refused.value), word


def test_a_store_may_be_called_by_an_at_sign_and_by_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_storage("results@2026", create=True)
    assert Path("results@2026").is_dir()
    with pytest.raises(StoreError) as refused:
        open_storage(f"key:{SECRET}@host", create=True)
    assert SECRET not in str(refused.value)


def test_no_command_quotes_or_keeps_them(tmp_path: Path) -> None:
    """One process runs every line, as the console scripts do."""
    lines = [
        [module, *words]
        for word in (REFUSED[0], REFUSED[1], REFUSED[4], REFUSED[12])
        for module, *words in (
            ("classify.cli", "probe", "--model", "linear", "--store", "s", "--participants", "p", "--runs", word),
            ("classify.cli", "probe", "--model", word, "--store", "s", "--participants", "p"),
            ("classify.cli", "probe", f"--unknown={word}"),
            ("reports.cli", "track", "--runs", "r", "--tracking-uri", word),
            ("reports.cli", "serve", "--runs", "r", "--port", word),
            ("extract.cli", "status", "--store", word),
            ("extract.cli", word),
        )
    ]
    code = (
        "import json, runpy, sys\n"
        "for module, *words in json.loads(sys.argv[1]):\n"
        "    sys.argv = [module, *words]\n"
        "    try:\n        runpy.run_module(module, run_name='__main__')\n"
        "    except SystemExit as end:\n        assert end.code == 2, words[0]\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(lines)], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.replace(SECRET, "***")
    assert done.stderr.count("expected a plain URL") == len(lines)
    assert SECRET not in done.stdout + done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text()] == []
