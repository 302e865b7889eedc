"""A store and three runs of an earlier version are read, compared, predicted from and shown. A phantom, no patient.

``tests/fixtures/old_runs.tar.xz`` was made by the code of commit 764bc69: ``make_study(40, effect=1.0, seed=5)``, a
probe each of linear (with a search, and evaluated on test), lgbm and mlp, and what each predicted then.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import Command

from classify.run.folder import load_run
from embeddings_store.verify import verify_store
from reports.runs import read_runs

HEADS = ("linear", "lgbm", "mlp")
ARCHIVE = Path(__file__).parent.parent / "fixtures" / "old_runs.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def folder_of(old: Path, head: str) -> Path:
    return next((old / "runs").glob(f"*-{head}-*"))


def test_its_store_and_runs_are_read(old: Path) -> None:
    assert verify_store(str(old / "store"))["bad"] == 0
    assert {run.model for run in read_runs(old / "runs")} == set(HEADS)
    assert "test" in load_run(folder_of(old, "linear")).predictions["split"].unique()


@pytest.mark.parametrize("head", HEADS)
def test_a_record_that_is_read_and_written_again_is_the_same(old: Path, head: str) -> None:
    raw = json.loads((folder_of(old, head) / "run.json").read_text())
    again = json.loads(json.dumps(load_run(folder_of(old, head)).record.to_dict()))
    assert again.pop("model_sha256") == {}  # not kept then
    newer = {name: again.pop(name) for name in set(again) - set(raw)}
    assert not any(newer.values()), "what was not known then is empty"
    assert again == raw


@pytest.mark.parametrize("head", HEADS)
def test_they_predict_what_they_predicted_then(old: Path, command: Command, tmp_path: Path, head: str) -> None:
    out = tmp_path / "now.csv"
    done = command("classify", "predict", "--run", folder_of(old, head), "--store", old / "store", "--out", out)
    assert done.code == 0, done.stderr
    now, then = (pd.read_csv(path, dtype={"unit": str}) for path in (out, old / f"predicted_{head}.csv"))
    now = now[now["level"] == "participant"].reset_index(drop=True)
    assert list(now["unit"]) == list(then["unit"])
    assert list(now["predicted"].astype(str)) == list(then["predicted"].astype(str))
    names = [name for name in then if name.startswith("probability_")]
    assert np.allclose(now[names], then[names], rtol=1e-4, equal_nan=True)


def test_they_are_compared(old: Path, command: Command, tmp_path: Path) -> None:
    runs = [argument for head in HEADS for argument in ("--run", folder_of(old, head))]
    done = command("classify", "compare", *runs, "--runs", tmp_path, "--replicates", 50, "--json")
    assert done.code == 0, done.stderr
    assert {run["run"] for run in done.json["runs"]} == {folder_of(old, head).name for head in HEADS}
    assert {line["model"] for line in done.json["tasks"]["four-class"]["lines"]} >= set(HEADS)


def test_they_are_shown_with_the_numbers_that_they_recorded(old: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        "reports", "study", "--store", old / "store", "--runs", old / "runs", "--out", tmp_path, "--json"
    )  # fmt: skip
    assert done.code == 0, done.stderr
    page = (tmp_path / "study.html").read_text()
    for head in HEADS:
        record = json.loads((folder_of(old, head) / "run.json").read_text())
        value = record["metrics"]["participant"]["val"]["balanced_accuracy"]["value"]
        assert f"{value:.2f}" in page
        assert record["id"] in page
