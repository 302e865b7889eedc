"""The commands across models on real stores: one JSON object, words on stderr, one message an error, telling help."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from classify_study import Study, make_study
from command_line import Command, named_in
from test_classify_cli import fill_store

COMMANDS = ("compare", "learning-curve", "predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores of the same people, and a third of people without labels."""
    folder = tmp_path_factory.mktemp("studies")
    study = make_study(48, effect=2.0)
    fill_store(study, folder / "oct")
    space = replace(study.stored.space, weights_sha256="7" * 64)
    blind = replace(study.stored, pooled=make_study(48, seed=0).stored.pooled, space=space)
    fill_store(Study(study.people, blind), folder / "random")
    new = make_study(12, effect=2.0, seed=5).stored
    people = [f"9{person[1:]}" for person in new.index["participant"]]
    fill_store(Study(study.people, replace(new, index=new.index.assign(participant=people))), folder / "new")
    study.write(folder)
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_compare_then_predict_with_the_best(command: Command, folder: Path) -> None:
    done = command(
        "classify", "compare", "--store", "oct=oct", "--store", "random=random", "--random-twin", "random",
        "--models", "linear,knn", "--tasks", "healthy-vs-rest", "--participants", "participants.tsv",
        "--replicates", 50, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    board = done.json["tasks"]["healthy-vs-rest"]
    assert Path(done.json["path"], "leaderboard.csv").exists()
    for said in ("[4/4] random/knn", "models were compared, and the first of 4 looks better than it is", "age+site",
                 "test: never read", "SYNTHETIC PHANTOM", "Research use only"):  # fmt: skip
        assert said in " ".join(done.stderr.split())
    run = next(Path("runs", cell["run"]) for cell in done.json["runs"] if cell["name"] == board["best"])
    told = command("classify", "predict", "--run", run, "--store", "new", "--out", "new.csv", "--json")
    assert told.code == 0, told.stderr
    assert told.json["levels"]["participant"]["lines"] == 12
    # two of the new people have the very volumes (equal keys) of two of train, under another number
    assert told.json["known_to_the_run"] == {"train": 8, "new": 40}
    assert "participant: 12 lines" in told.stderr
    assert "flag: 48 volumes, synthetic" in told.stderr
    lines = pd.read_csv("new.csv", dtype={"participant": str})
    assert len(lines) == 12 * (1 + 2 + 4)
    assert not named_in(told.stderr, lines["participant"], folder)
    elsewhere = "random" if board["best"].startswith("oct") else "oct"
    other = command("classify", "predict", "--run", run, "--store", elsewhere, "--out", "other.csv")
    assert other.code == 1
    assert "made in the embedding space" in other.stderr
    assert not Path("other.csv").exists()


def test_a_probe_with_its_random_twin(command: Command) -> None:
    done = command(
        "classify", "probe", "--model", "linear", "--store", "oct", "--random-twin", "random",
        "--participants", "participants.tsv", "--task", "healthy-vs-rest", "--replicates", 50, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "random twin" in done.json["baselines"]
    assert "difference to random twin" in done.stderr
    assert "taken on trust" in " ".join(done.stderr.split())
    same = command(
        "classify", "probe", "--model", "dummy", "--store", "oct", "--random-twin", "oct",
        "--participants", "participants.tsv",
    )  # fmt: skip
    assert same.code == 2
    assert "--random-twin: expected a store of an encoder with random weights" in same.stderr


def test_a_learning_curve(command: Command) -> None:
    done = command(
        "classify", "learning-curve", "--model", "linear", "--store", "oct", "--participants", "participants.tsv",
        "--fractions", "0.05,0.5,1", "--repeats", 2, "--replicates", 50, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    points = done.json["points"]
    assert "absent" in points[0]
    assert points[1]["participants"] == 12
    assert points[2]["macro_auroc"]["value"] > 0.7
    assert done.json["search"]["sampler"] == "grid"
    assert Path(done.json["path"], "curve.json").exists()
    for said in ("the points share their luck", "chosen once, on the whole of train", "Research use only"):
        assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("compare",), 2, "nothing to compare"),
        (("compare", "--store", "oct"), 2, "--store: expected NAME=ADDRESS"),
        (("compare", "--store", "a=oct", "--store", "a=new"), 2, "the name a stands twice"),
        (("compare", "--store", "a=oct"), 2, "--store needs --models and --participants"),
        (("compare", "--store", "a=oct", "--models", "linear,,", "--participants", "participants.tsv"), 2, "--models"),
        (("learning-curve", "--fractions", "half"), 2, "--fractions: expected numbers"),
        (("learning-curve", "--fractions", "2"), 2, "--fractions: expected numbers above 0"),
        (("predict", "--run", "nothing"), 2, "--run nothing: expected the folder of a run"),
    ],
)
def test_a_bad_request_is_one_message(command: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
    rest = {
        "compare": (),
        "learning-curve": ("--model", "dummy", "--store", "oct", "--participants", "participants.tsv"),
        "predict": ("--store", "oct"),
    }
    done = command("classify", *arguments, *rest[arguments[0]])
    assert (done.code, done.stdout) == (code, "")
    assert message in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_and_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys\nfrom classify.cli import app\ntry:\n    app(['{name}', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'torch', 'lightgbm', 'optuna', 'zarr', 'jaxtyping'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert f"Example: classify {name}" in shown.stdout
