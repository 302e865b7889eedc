"""A run folder is input: what is damaged, edited or absurd in it is refused in one line, and never answered from."""

import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from classify.errors import RunFolderError
from classify.heads import load_head
from classify.model_files import read_arrays, read_json
from classify.predict import predict
from classify.run.folder import load_run
from classify.run_options import PredictOptions
from embeddings_store.snapshot import Snapshot, read_features_source

ARCHIVE = Path(__file__).parent.parent / "fixtures" / "old_runs.tar.xz"
Edit = Callable[[Path], None]
NAN, MODEL = float("nan"), "model"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def stored(old: Path) -> Snapshot:
    return read_features_source(str(old / "store"))


def copy_of(old: Path, head: str, tmp_path: Path) -> Path:
    run = next((old / "runs").glob(f"*-{head}-*"))
    return Path(shutil.copytree(run, tmp_path / run.name))


def asked(run: Path, stored: Snapshot, tmp_path: Path) -> pd.DataFrame:
    options = PredictOptions(run=run, store="store", out=tmp_path / "out.csv")
    return predict(options, read=lambda *_, **__: stored).table


def edit_json(name: str, change: Callable[[Any], Any]) -> Edit:
    def edit(run: Path) -> None:
        tree = json.loads((run / name).read_text())
        changed = change(tree)
        (run / name).write_text(json.dumps(tree if changed is None else changed))

    return edit


def edit_arrays(name: str, **change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(run: Path) -> None:
        with np.load(run / name) as file:
            arrays = dict(file)
        np.savez(run / name, **{key: change.get(key, lambda x: x)(array) for key, array in arrays.items()})

    return edit


def huge(run: Path) -> None:
    """Say 10^12 numbers in the header of an array of a few."""
    name = run / "model" / "head.npz"
    with zipfile.ZipFile(name) as archive:
        parts = {one: archive.read(one) for one in archive.namelist()}
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    body = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117).encode() + b"\n" + bytes(80)
    with zipfile.ZipFile(name, "w") as archive:
        for one, part in parts.items():
            archive.writestr(one, body if one.startswith("coef") else part)


def put(tree: Any, path: str, value: Any) -> None:
    *way, last = path.split("/")
    for step in way:
        tree = tree[step]
    tree[last] = value


def text(name: str, body: str) -> Edit:
    def edit(run: Path) -> None:
        (run / name).write_text(body)

    return edit


def replaced(name: str, before: str, after: str) -> Edit:
    def edit(run: Path) -> None:
        (run / name).write_text((run / name).read_text().replace(before, after, 1))

    return edit


def scaled_by(temperature: float) -> Edit:
    levels = {level: {"temperature": temperature} for level in ("volume", "eye", "participant")}
    return text(f"{MODEL}/calibration.json", json.dumps({"method": "temperature", "parameters": levels}))


def first_nan(array: np.ndarray) -> np.ndarray:
    return np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)


LEVELS = "parameters/participant"
EDITS: dict[str, Edit] = {
    "weight NaN": edit_arrays(f"{MODEL}/head.npz", coef=first_nan),
    "weight infinite": edit_arrays(f"{MODEL}/head.npz", intercept=lambda x: x + np.inf),
    "weights of other features": edit_arrays(f"{MODEL}/head.npz", coef=lambda x: x[:, :-1]),
    "weights of other classes": edit_arrays(f"{MODEL}/head.npz", coef=lambda x: x[:-1], intercept=lambda x: x[:-1]),
    "weights as text": edit_arrays(f"{MODEL}/head.npz", coef=lambda x: x.astype(str)),
    "weights without a name": lambda run: np.savez(run / MODEL / "head.npz", other=np.zeros(3)),
    "shape of 10^12": huge,
    "no archive": text(f"{MODEL}/head.npz", "no archive"),
    "head missing": lambda run: (run / MODEL / "head.npz").unlink(),
    "head unknown": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "head", "oracle")),
    "head a list": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "head", ["linear"])),
    "classes in another order": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "classes", [3, 2, 1, 0])),
    "classes of 99": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "classes", [0, 1, 2, 99])),
    "classes as text": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "classes", ["a", "b", "c", "d"])),
    "features of 10^12": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "features", 10**12)),
    "parameters unknown": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "parameters", {"depth": 3})),
    "head.json a list": text(f"{MODEL}/head.json", "[]"),
    "scale 0": edit_arrays(f"{MODEL}/standardiser.npz", scale=lambda x: x * 0),
    "scale negative": edit_arrays(f"{MODEL}/standardiser.npz", scale=lambda x: -x),
    "mean NaN": edit_arrays(f"{MODEL}/standardiser.npz", mean=first_nan),
    "mean of other features": edit_arrays(
        f"{MODEL}/standardiser.npz", mean=lambda x: x[:, 1:], scale=lambda x: x[:, 1:]
    ),
    "tokens -1": edit_json(f"{MODEL}/standardiser.json", lambda tree: put(tree, "tokens", -1)),
    "protocols too many": edit_json(f"{MODEL}/standardiser.json", lambda tree: put(tree, "protocols", ["a"] * 9)),
    "state without features": edit_json(f"{MODEL}/model.json", lambda tree: {"aggregation": tree["aggregation"]}),
    "weights of scans NaN": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "aggregation/other", NAN)),
    "weights of scans negative": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "aggregation/other", -1.0)),
    "spread 0": edit_json(f"{MODEL}/calibration.json", lambda tree: put(tree, f"{LEVELS}/spread", 0.0)),
    "spread negative": edit_json(f"{MODEL}/calibration.json", lambda tree: put(tree, f"{LEVELS}/spread", -1.0)),
    "spread 1e999": replaced(f"{MODEL}/calibration.json", '"spread": ', '"spread": 1e999'),
    "slope NaN": edit_json(f"{MODEL}/calibration.json", lambda tree: put(tree, f"{LEVELS}/shift", [NAN] * 4)),
    "shift of other classes": edit_json(f"{MODEL}/calibration.json", lambda tree: put(tree, f"{LEVELS}/shift", [0.0])),
    "method unknown": edit_json(f"{MODEL}/calibration.json", lambda tree: put(tree, "method", "oracle")),
    "prevalence of other classes": edit_json(
        f"{MODEL}/calibration.json", lambda tree: put(tree, "prevalence", [0.5, 0.5])
    ),
    "temperature -1": scaled_by(-1.0),
    "temperature 0": scaled_by(0.0),
    "distance NaN": edit_arrays(f"{MODEL}/reference/novelty.npz", known_distance=first_nan),
    "distances unsorted": edit_arrays(f"{MODEL}/reference/novelty.npz", known_distance=lambda x: x[::-1]),
    "distances none": edit_arrays(f"{MODEL}/reference/novelty.npz", known_distance=lambda x: x[:0]),
    "novelty of other features": edit_arrays(f"{MODEL}/reference/novelty.npz", centre=lambda x: x[:-1]),
    "head of 5,000 letters": edit_json(f"{MODEL}/head.json", lambda tree: put(tree, "head", "9" * 5000)),
    "layer of 5,000 letters": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/layer", "9" * 5000)),
    "pools in lists": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/pools", [[[]]])),
    "pools a number": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/pools", 3)),
    "pools none": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/pools", [])),
    "pools and a grid": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/token_grid", [1, 2, 2])),
    "views as text": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/views", "9")),
    "mirror as text": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features/mirror", "no")),
    "features a list": edit_json(f"{MODEL}/model.json", lambda tree: put(tree, "features", ["last"])),
    "tokens of 10^19": edit_json(f"{MODEL}/standardiser.json", lambda tree: put(tree, "tokens", 10**19)),
    "calibration of no people": edit_json(
        f"{MODEL}/calibration.json", lambda tree: tree["parameters"].pop("participant") and tree
    ),
    "reference with tokens": edit_json(
        f"{MODEL}/reference/standardiser.json", lambda tree: put(tree, "tokens", 50_000)
    ),
    "reference without pools": edit_json(f"{MODEL}/reference/reference.json", lambda tree: put(tree, "pools", [])),
    "reference of pools in lists": edit_json(
        f"{MODEL}/reference/reference.json", lambda tree: put(tree, "pools", [{"a": 1}])
    ),
    "reference of other features": edit_arrays(
        f"{MODEL}/reference/standardiser.npz", mean=lambda x: x[:, 1:], scale=lambda x: x[:, 1:]
    ),
    "directions fewer": edit_arrays(f"{MODEL}/reference/known.npz", direction=lambda x: x[:-1]),
    "directions of other features": edit_arrays(f"{MODEL}/reference/known.npz", direction=lambda x: x[:, 1:]),
    "directions none": edit_arrays(
        f"{MODEL}/reference/known.npz",
        **dict.fromkeys(("direction", "volume", "participant", "label"), lambda x: x[:0]),
    ),
    "known labels as text": edit_arrays(f"{MODEL}/reference/known.npz", label=lambda x: x.astype(str)),
    "known people fewer": edit_arrays(f"{MODEL}/reference/known.npz", participant=lambda x: x[1:]),
    "sizes 0": edit_json(f"{MODEL}/reference/reference.json", lambda tree: put(tree, "sizes", {"p": 0})),
    "sizes -1": edit_json(f"{MODEL}/reference/reference.json", lambda tree: put(tree, "sizes", -1)),
    "sizes as text": edit_json(
        f"{MODEL}/reference/reference.json", lambda tree: put(tree, "sizes", {"p": [["a"] * 3]})
    ),
    "fences as text": edit_json(
        f"{MODEL}/reference/reference.json", lambda tree: put(tree, "fences", {"p": {"i": ["a", "b"]}})
    ),
    "fences NaN": edit_json(
        f"{MODEL}/reference/reference.json", lambda tree: put(tree, "fences", {"p": {"i": [NAN, NAN]}})
    ),
    "fences a list": edit_json(f"{MODEL}/reference/reference.json", lambda tree: put(tree, "fences", [1, 2])),
    "record NaN": edit_json("run.json", lambda tree: put(tree, "seconds/fit", NAN)),
    "record a list": text("run.json", "[]"),
    "record cut": lambda run: os.truncate(run / "run.json", 5000),
    "record nested": text("run.json", '{"id": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "record of 4,300 digits": replaced("run.json", '"rows": ', '"rows": ' + "9" * 5000),
    "record without a task": edit_json("run.json", lambda tree: {k: v for k, v in tree.items() if k != "task"}),
    "record of 100,000 classes": edit_json("run.json", lambda tree: put(tree, "classes", list(map(str, range(10**5))))),
    "record with a class less": edit_json("run.json", lambda tree: put(tree, "classes", tree["classes"][:3])),
    "record with classes as text": edit_json("run.json", lambda tree: put(tree, "classes", "healthy")),
    "record with splits as list": edit_json("run.json", lambda tree: put(tree, "splits", [1])),
    "record with people of -1": edit_json("run.json", lambda tree: put(tree, "splits/val/participants", -1)),
    "record of another head": edit_json("run.json", lambda tree: put(tree, "model", "knn")),
    "record that is a phantom by hearsay": edit_json("run.json", lambda tree: put(tree, "phantom", "no")),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_damaged_run_is_refused_in_one_line(kind: str, old: Path, stored: Snapshot, tmp_path: Path) -> None:
    run = copy_of(old, "linear", tmp_path)
    EDITS[kind](run)
    with pytest.raises(RunFolderError) as refused:
        asked(run, stored, tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert str(tmp_path) not in str(refused.value)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.1])
def test_trees_of_another_length_are_refused_before_they_are_parsed(
    share: float, old: Path, stored: Snapshot, tmp_path: Path
) -> None:
    run = copy_of(old, "lgbm", tmp_path)
    path = run / MODEL / "head.lightgbm.txt"
    body = path.read_text()
    place = body.index("threshold=") + 10
    path.write_text(body[: int(share * len(body))] if share < 1 else f"{body[:place]}0.123 {body[place:]}")
    with pytest.raises(RunFolderError, match="whole trees"):
        asked(run, stored, tmp_path)


def first(name: str, change: Callable[[list[str]], list[str]], skip: int = 0) -> Callable[[str], str]:
    """Change the numbers of one list of a tree in place, and the length of the tree with it."""

    def edit(body: str) -> str:
        found = [one for one in re.finditer(rf"^{name}=(.*)$", body, re.MULTILINE) if len(one[1].split()) > 2][skip]
        return with_sizes(f"{body[: found.start(1)]}{' '.join(change(found[1].split()))}{body[found.end(1) :]}")

    return edit


def with_sizes(body: str) -> str:
    """Say the true length of each tree, as an editor who knows the format would."""
    head, trees = body.split("\n\n", 1)
    blocks = re.findall(r"Tree=\d+\n.*?\n\n\n", trees, re.DOTALL)
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={' '.join(str(len(one)) for one in blocks)}", head, flags=re.M) + (
        f"\n\n{trees}"
    )


def header(name: str, value: str) -> Callable[[str], str]:
    return lambda body: re.sub(rf"^{name}=.*$", f"{name}={value}", body, count=1, flags=re.MULTILINE)


TREES: dict[str, Callable[[str], str]] = {
    "a feature of 10^8": first("split_feature", lambda x: ["99999999", *x[1:]]),
    "a feature of -1": first("split_feature", lambda x: ["-1", *x[1:]]),
    "a split less": first("split_feature", lambda x: x[1:]),
    "a child beyond": first("left_child", lambda x: [*x[:-1], "999999"]),
    "a leaf beyond": first("right_child", lambda x: ["-999999", *x[1:]]),
    "a circle": first("left_child", lambda x: ["0", *x[1:]]),
    "a circle further down": first("right_child", lambda x: [*x[:-1], "1"]),
    "a leaf twice": first("right_child", lambda x: [*x[:-1], "-1"]),
    "a leaf NaN": first("leaf_value", lambda x: ["nan", *x[1:]]),
    "a leaf infinite": first("leaf_value", lambda x: ["1e999", *x[1:]]),
    "a leaf less": first("leaf_value", lambda x: x[1:]),
    "a threshold as text": first("threshold", lambda x: ["x", *x[1:]]),
    "a threshold NaN": first("threshold", lambda x: ["nan", *x[1:]]),
    "a category": first("decision_type", lambda x: ["1", *x[1:]]),
    "more leaves than there are": header("num_leaves", "7000"),
    "leaves of -5": header("num_leaves", "-5"),
    "categories": header("num_cat", "3"),
    "linear leaves": header("is_linear", "1"),
    "classes of 3": header("num_class", "3"),
    "classes of 10^9": header("num_class", "1000000000"),
    "trees a round": header("num_tree_per_iteration", "0"),
    "features fewer": header("max_feature_idx", "1"),
    "features of 10^9": header("max_feature_idx", "1000000000"),
    "another objective": header("objective", "binary sigmoid:1"),
    "sizes of trees": header("tree_sizes", "1 2 3 4"),
    "sizes negative": header("tree_sizes", "-601"),
    "no sizes": header("tree_sizes", ""),
    "averaged": lambda body: body.replace("\n\n", "\naverage_output\n\n", 1),
    "a tree less": lambda body: with_sizes(re.sub(r"Tree=5\n.*?\n\n\n", "", body, flags=re.DOTALL)),
    "a round less, and the last one twice": lambda body: with_sizes(body.replace("Tree=599\n", "Tree=598\n")),
    "a field twice": lambda body: with_sizes(body.replace("shrinkage=1", "num_cat=0\nshrinkage=1", 1)),
    "no text": lambda body: "",
    "another end": lambda body: body.replace("pandas_categorical:null", "pandas_categorical:[[1, 2]]"),
}


@pytest.mark.parametrize("kind", TREES)
def test_edited_trees_without_a_digest_never_reach_the_parser(kind: str, old: Path, tmp_path: Path) -> None:
    run = copy_of(old, "lgbm", tmp_path)
    assert "model_sha256" not in json.loads((run / "run.json").read_text())
    path = run / MODEL / "head.lightgbm.txt"
    body = path.read_text()
    path.write_text(TREES[kind](body))
    assert path.read_text() != body
    with pytest.raises(RunFolderError, match="whole trees of LightGBM, got a text that was cut or changed") as refused:
        load_head(load_run(run).model_folder())
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["predictions.parquet", "cohort.parquet"])
@pytest.mark.parametrize(("column", "value"), [("label", 99), ("label", -1), ("split", "future")])
def test_tables_hold_classes_and_splits_that_there_are(
    name: str, column: str, value: Any, old: Path, tmp_path: Path
) -> None:
    run = copy_of(old, "linear", tmp_path)
    table = pd.read_parquet(run / name)
    table.loc[0, column] = value
    table.to_parquet(run / name)
    with pytest.raises(RunFolderError, match=name):
        load_run(run)


def test_a_prediction_of_a_run_is_a_number(old: Path, tmp_path: Path) -> None:
    run = copy_of(old, "linear", tmp_path)
    table = pd.read_parquet(run / "predictions.parquet")
    table.loc[3, "probability_1"] = np.nan
    table.to_parquet(run / "predictions.parquet")
    with pytest.raises(RunFolderError, match="finite"):
        load_run(run)


def test_a_unit_without_a_finite_probability_has_no_answer_and_says_so(
    old: Path, stored: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classify.fitting.model import FittedModel

    whole = FittedModel.predict

    def predict_nan(self: FittedModel, *args: Any, **kwargs: Any) -> Any:
        levels = whole(self, *args, **kwargs)
        levels["participant"].logits[0] = np.nan
        return levels

    monkeypatch.setattr(FittedModel, "predict", predict_nan)
    table = asked(copy_of(old, "linear", tmp_path), stored, tmp_path)
    people = table[table["level"] == "participant"]
    (line,) = people[people["confidence"].isna() & (people["reason"].str.contains("not finite"))].to_dict("records")
    assert line["abstain"]
    assert pd.isna(line["predicted"])
    assert people["predicted"].notna().sum() == len(people) - 1 - (people["reason"].str.contains("test")).sum()


def test_files_that_were_changed_after_the_run_was_made_are_named(old: Path, stored: Snapshot, tmp_path: Path) -> None:
    from classify.model_files import digest_files

    run = copy_of(old, "lgbm", tmp_path)
    edit_json("run.json", lambda tree: put(tree, "model_sha256", {"model": digest_files(run / MODEL)}))(run)
    assert len(asked(run, stored, tmp_path))
    with (run / MODEL / "head.lightgbm.txt").open("a") as file:
        file.write(" ")
    with pytest.raises(RunFolderError, match=r"head\.lightgbm\.txt: expected the file that the run wrote"):
        asked(run, stored, tmp_path)


def test_arrays_and_objects_are_read_as_they_were_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3.0), names=np.array(["a", "b"]))
    assert read_arrays(tmp_path / "a.npz")["x"].tolist() == [0.0, 1.0, 2.0]
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(10**6))
    with pytest.raises(RunFolderError, match="plain bytes"):
        read_arrays(tmp_path / "b.npz")
    (tmp_path / "c.json").write_text('{"a": [1, 2.5, null, "x"]}')
    assert read_json(tmp_path / "c.json") == {"a": [1, 2.5, None, "x"]}
