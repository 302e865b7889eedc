"""The command line on a real store: JSON on stdout, words on stderr, one message an error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from classify_study import Study, fill_store, make_study
from command_line import named_in

from classify.cli import main
from classify.fitting.source import rebuild_features
from classify.run.folder import load_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study whose vectors lie in a real store."""
    folder = tmp_path_factory.mktemp("study")
    study = make_study(32, effect=2.0)
    fill_store(study, folder / "store")
    study.write(folder)
    return study, folder


def classify(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from classify.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_probe_prints_one_json_object_and_names_nobody(store: tuple[Study, Path]) -> None:
    study, folder = store
    done = classify(
        "probe", "--model", "linear", "--store", "store", "--participants", "participants.tsv",
        "--replicates", "50", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    run = load_run(folder / record.pop("path"))
    assert run.record.to_dict() == record
    assert "difference to age+site" in done.stderr
    assert "SYNTHETIC PHANTOM" in done.stderr
    assert "Research use only" in done.stderr
    assert not named_in(done.stderr, study.people["participant_id"], folder)
    assert record["snapshot"]["number"] == 1
    features = rebuild_features(run, str(folder / "store"))
    assert features.volume.tolist() == run.cohort["volume"].tolist()
    assert features.names[:2] == ("last/mean/000", "last/mean/001")


def call(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[object, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["classify", command, *options])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_evaluate_counts_its_looks_and_names_nobody(
    store: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = store
    monkeypatch.chdir(folder)
    options = ("--store", "store", "--participants", "participants.tsv", "--replicates", "20", "--json")
    _, made, _ = call("probe", monkeypatch, capsys, "--model", "dummy", "--runs", "looked", *options)
    run = json.loads(made)["path"]
    for looks in ("1 time", "2 times"):
        code, out, err = call("evaluate", monkeypatch, capsys, "--run", run, "--split", "test", *options)
        assert code == 0, err
        assert f"looked at {looks}" in err
        assert "balanced_accuracy" in json.loads(out)["metrics"]["participant"]["test"]
        assert not named_in(err, study.people["participant_id"], folder)
    code, out, err = call("evaluate", monkeypatch, capsys, "--run", run, "--split", "val", *options)
    assert (code, out) == (2, "")
    assert "is not one of 'test'" in err


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"--model": "oracle"}, 2, "is not one of"),
        ({"--task": "five-class"}, 2, "expected one of four-class"),
        ({"--layer": "9"}, 2, "--layer: the store holds 1, last"),
        ({"--pool": "mean,,max"}, 2, "--pool: expected different names"),
        ({"--participants": "nothing.tsv"}, 1, "found no file"),
        ({"--calibrate": "platt"}, 2, "is not one of"),
        ({"--store": "nothing"}, 1, "nothing"),
        ({"--runs": "participants.tsv"}, 1, "--runs"),
    ],
)
def test_a_bad_request_is_one_message(
    store: tuple[Study, Path],
    changed: dict[str, str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"--model": "dummy", "--store": "store", "--participants": "participants.tsv"} | changed
    monkeypatch.chdir(store[1])
    monkeypatch.setattr(sys, "argv", ["classify", "probe", *(word for pair in options.items() for word in pair)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (code, "")
    assert message in err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom classify.cli import app\ntry:\n    app(['probe', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'torch', 'lightgbm', 'optuna', 'zarr', 'jaxtyping'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
