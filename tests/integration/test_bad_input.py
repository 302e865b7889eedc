"""Bad input: one clear message, a non-zero exit, no traceback, nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, Finished, run_here
from rclone_server import rclone_s3

ENCODER = ("--encoder", "random:tiny", "--image-size", "16,48,48", "--tokens", "none")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buckets") / "bucket"
    done = run_here("oct-phantom", "--out", folder, "--participants", 2, "--scale", "0.03")
    assert done.code == 0, done.stderr
    return folder


def refused(done: Finished, *words: str, code: int = 1) -> None:
    """The message is one, names the words, and is no traceback."""
    assert done.code == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.s3
def test_wrong_credentials_and_missing_buckets(
    tmp_path: Path, bucket: Path, command: Command, s3_credentials: Callable[[str, str], None]
) -> None:
    store = tmp_path / "store"
    with rclone_s3(bucket.parent) as (endpoint, access_key, secret_key):
        line = ("extract-embeddings", "--endpoint-url", endpoint, "--store", store, *ENCODER)
        s3_credentials(access_key, "not-the-secret")
        wrong = command(*line, "--bucket", "bucket")
        s3_credentials(access_key, secret_key)
        missing = command(*line, "--bucket", "no-such-bucket")
        empty = command(*line, "--bucket", "bucket", "--prefix", "nothing/here")
    refused(wrong, "bucket")
    assert "not-the-secret" not in wrong.stderr
    assert secret_key not in wrong.stderr
    refused(missing, "no-such-bucket")
    refused(empty, "nothing/here")
    assert not store.exists()


def test_no_credentials_at_all(tmp_path: Path, command: Command) -> None:
    done = command(
        *("extract-embeddings", "--bucket", "b", "--endpoint-url", "http://127.0.0.1:9"),
        *("--store", tmp_path / "store", *ENCODER),
    )
    refused(done, "AWS_ACCESS_KEY_ID")
    assert not (tmp_path / "store").exists()


def test_an_empty_folder_is_no_bucket(tmp_path: Path, command: Command) -> None:
    (tmp_path / "empty").mkdir()
    done = command("extract-embeddings", "--bucket", tmp_path / "empty", "--store", tmp_path / "store", *ENCODER)
    refused(done, "retinal_oct/structural_oct")
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written(tmp_path: Path, bucket: Path, command: Command) -> None:
    (tmp_path / "file").write_text("in the way")
    done = command("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "file" / "store", *ENCODER)
    refused(done, "file/store")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_checkpoint_that_is_none(tmp_path: Path, bucket: Path, command: Command) -> None:
    (tmp_path / "notes.pt").write_bytes(b"these are no weights" * 100)
    line = ("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store")
    refused(command(*line, "--checkpoint", tmp_path / "notes.pt"), "notes.pt")
    refused(command(*line, "--checkpoint", tmp_path / "absent.pt"), "absent.pt")
    refused(command(*line), "--checkpoint", "--encoder", code=2)
    assert not (tmp_path / "store").exists()


def test_a_store_of_another_space(tmp_path: Path, bucket: Path, command: Command) -> None:
    line = ("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", *ENCODER)
    assert command(*line).code == 0
    before = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())
    done = command(*line, "--pool", "mean", "--preset", "finetune_v0")
    refused(done, "pools", "preset")
    assert sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--image-size", "64x64"),
        ("--layers", "9"),
        ("--layers", ""),
        ("--pool", "median"),
        ("--tokens", "3x3x3"),
        ("--batch-size", "0"),
        ("--preset", "no-such-preset"),
    ],
)
def test_wrong_options(option: str, value: str, tmp_path: Path, bucket: Path, command: Command) -> None:
    line = ("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", "--encoder", "random:tiny")
    refused(command(*line, option, value), code=2)
    assert not (tmp_path / "store").exists()


def test_a_wrong_choice_names_the_choices(tmp_path: Path, bucket: Path, command: Command) -> None:
    line = ("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", "--encoder", "random:tiny")
    done = command(*line, "--precision", "fp8")
    assert done.code == 2
    assert "'fp32', 'bf16'" in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "store").exists()


def test_a_gpu_where_there_is_none(tmp_path: Path, bucket: Path, command: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = ("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", *ENCODER)
    refused(command(*line, "--device", "cuda"), "cuda")


def test_a_place_without_a_store(tmp_path: Path, command: Command) -> None:
    for verb in ("status", "verify", "snapshot", "retry"):
        refused(command("extract-embeddings", verb, "--store", tmp_path / "nothing"), "nothing")
    assert not (tmp_path / "nothing").exists()
