"""The command line: what it prints, how it leaves, and that help is quick."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_study import copy_of, scans

from finetune.cli import main


def finetune(monkeypatch: pytest.MonkeyPatch, bucket: Path, *options: object) -> int:
    arguments = [
        "--bucket", bucket, "--participants", bucket / "participants.tsv", "--encoder", "random:tiny",
        "--image-size", "4,32,32", "--device", "cpu", "--epochs", 1, "--replicates", 5, *options,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["finetune", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_one_json_on_stdout_and_progress_on_stderr(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = finetune(monkeypatch, phantom, "--runs", tmp_path, "--stages", "head,last", "--set", "stages.last.augment=0",
                    "--json")  # fmt: skip
    written = capsys.readouterr()
    record = json.loads(written.out)
    assert code == 0
    assert json.loads((Path(record["path"]) / "run.json").read_text())["id"] == record["id"]
    assert record["command"][:2] == ["finetune", "--bucket"]
    assert "head 1/1: train loss" in written.err
    assert "last 1/1: train loss" in written.err
    assert "optimistic" in written.err
    assert "Research use only" in written.err


def test_failed_volumes_end_with_code_3(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    scans(bucket, "train")[0].write_bytes(b"no DICOM")
    assert finetune(monkeypatch, bucket, "--runs", tmp_path / "runs", "--stages", "head", "--json") == 3
    written = capsys.readouterr()
    assert json.loads(written.out)["errors"] == {"NotDicom": 1}
    assert "not used: 1 volumes with NotDicom" in written.err


def test_an_encoder_that_was_trained_otherwise_is_refused_here_too(
    phantom: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--bucket", phantom, "--participants", phantom / "participants.tsv", "--runs", tmp_path,
                 "--checkpoint", reference / "vjepa2_hf")  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["finetune", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    written = capsys.readouterr().err
    assert "probe stored embeddings of this encoder instead" in written
    assert "finetune has pretrain only: probe stored embeddings of this encoder instead" in written
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--stages", "neck"), 2, "--stages"),
        (("--config", "nothing.yaml"), 2, "nothing.yaml"),
        (("--set", "stages.last.epoch=2"), 2, "unknown key 'stages.last.epoch'"),
        (("--set", "stages.lora.rank=2"), 2, "stage 'lora' is not run"),
        (("--store", "nowhere"), 1, "nowhere"),
        (("--task", "five-class"), 2, "--task"),
        (("--image-size", "4,33,32"), 2, "image size"),
        (("--checkpoint", "x.pt"), 2, "expected --checkpoint FILE (with --encoder FAMILY"),
        (("--device", "quantum"), 2, "'quantum' is not one of"),
        (("--prefix", "nowhere"), 1, "bucket"),
        (("--lora",), 2, "No such option"),
    ],
)
def test_wrong_usage_is_one_message(
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    assert finetune(monkeypatch, phantom, "--runs", tmp_path / "runs", *options) == code
    written = capsys.readouterr()
    assert said in written.err
    assert written.out == ""
    assert not (tmp_path / "runs").exists()


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'pydantic', 'sklearn', 'boto3'}"
    code = (
        f"import sys, finetune.cli; sys.exit(str({heavy} & sys.modules.keys()) if {heavy} & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def command_line(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["finetune", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_tune_writes_a_recipe_and_one_json(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command_line(
        monkeypatch, "tune", "--study", tmp_path / "study", "--trials", 1, "--stages", "head", "--bucket", phantom,
        "--participants", phantom / "participants.tsv", "--encoder", "random:tiny", "--image-size", "4,32,32",
        "--device", "cpu", "--set", "stages.head.epochs=1", "--runs", tmp_path / "runs", "--json",
    )  # fmt: skip
    written = capsys.readouterr()
    assert code == 0
    assert json.loads(written.out)["trials"] == 1
    assert f"--config {tmp_path}/study/best.yaml" in written.err
    assert (tmp_path / "study" / "best.yaml").is_file()


def test_montage_writes_a_picture(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = scans(phantom, "train")[:2]
    picture = tmp_path / "m.png"
    assert command_line(monkeypatch, "montage", one, other, "--out", picture, "--image-size", "8,32,32") == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("montage", "nothing.dcm", "--out", "x.png"), "cannot be read"),
        (("montage", "a", "b", "c", "--out", "x.png"), "one file or two"),
    ],
)
def test_wrong_words_are_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert command_line(monkeypatch, *words) == 2
    assert said in capsys.readouterr().err


def test_a_bucket_of_no_dataset_by_name_needs_labels(
    phantom: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(monkeypatch, "--bucket", phantom) == 2
    assert "--labels or --participants: expected one of them" in capsys.readouterr().err


def test_evaluate_counts_its_looks_and_prints_one_json(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(monkeypatch, phantom, "--runs", tmp_path, "--stages", "head", "--json") == 0
    folder = json.loads(capsys.readouterr().out)["path"]
    participants = phantom / "participants.tsv"
    words = ("--run", folder, "--participants", participants, "--split", "test", "--replicates", 5, "--json")
    code = command_line(monkeypatch, "evaluate", *words, "--bucket", phantom, "--device", "cpu")
    written = capsys.readouterr()
    assert code == 0
    assert "test" in json.loads(written.out)["metrics"]["participant"]
    assert "have been looked at 1 time" in " ".join(written.err.split())
    assert command_line(monkeypatch, "evaluate", *words) == 0
    assert "have been looked at 2 times; it is no longer untouched" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command_line(monkeypatch, "evaluate", *words) == 2
    assert "one process" in capsys.readouterr().err
