"""Cross-validated runs have a page of their own, or a section of their own, and claim no test."""

import json
from pathlib import Path

import pandas as pd
from simulated_run import build_run
from simulated_study import NOW, simulated_facts, simulated_features

from classify.cohort.splits import NO_TEST, OUT_OF_FOLD
from reports.options import StudyOptions
from reports.study import StudyPage, write_study


def make_crossed(runs: Path, name: str, **given: object) -> Path:
    """Turn a simulated run into one that was judged fold by fold."""
    folder = build_run(runs, name, model="linear", **given)  # type: ignore[arg-type]
    raw = json.loads((folder / "run.json").read_text())
    for tree in (raw["metrics"], raw["baselines"]):
        for of in tree.values():
            of[OUT_OF_FOLD] = of.pop("val")
    raw["splits"] = {"train": raw["splits"]["train"], OUT_OF_FOLD: raw["splits"]["train"]}
    found = {one: raw["metrics"]["participant"][OUT_OF_FOLD][one] for one in ("balanced_accuracy", "macro_auroc")}
    line = {
        "participants": 20, "units": 20, "metrics": found, "calibration": "logistic", "parameters": {},
        "features": {"layer": "last", "pools": ["mean"]}, "aggregation": "mean-logits", "inner_value": 0.7,
    }  # fmt: skip
    raw["cross_validation"] = {
        "folds": 2,
        "seed": 0,
        "claim": NO_TEST,
        "lines": [{"fold": f} | line for f in ("1", "2")],
    }
    raw["difference_to_baselines"] = {"age": {one: {"value": 0.1, "low": -0.1, "high": 0.3} for one in found}}
    raw["cohort_sha256"] = "f01d" + "0" * 60
    (folder / "run.json").write_text(json.dumps(raw))
    predictions = pd.read_parquet(folder / "predictions.parquet")
    predictions.assign(split=OUT_OF_FOLD).to_parquet(folder / "predictions.parquet")
    cohort = pd.read_parquet(folder / "cohort.parquet")
    cohort.assign(split="train", fold="1").to_parquet(folder / "cohort.parquet")
    return folder


def page_of(runs: Path, out: Path) -> tuple[StudyPage, str]:
    options = StudyOptions(runs=runs, store="store", out=out)
    study = write_study(options, facts=simulated_facts(), features_of=simulated_features, now=NOW)
    return study, study.page.read_text(encoding="utf-8")


def test_cross_validated_runs_alone_have_a_page_without_a_test(tmp_path: Path) -> None:
    make_crossed(tmp_path / "runs", "a")
    study, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert study.headline.verdict == "cross-validated"
    assert study.to_record()["best_run"] is None
    assert "Cross-validated, no test split" in page
    assert 'id="folds"' in page
    assert "alidation participants" not in page
    assert "test split was looked at" not in page


def test_next_to_runs_with_a_split_they_stand_in_a_section_of_their_own(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "b")
    make_crossed(tmp_path / "runs", "a")
    study, page = page_of(tmp_path / "runs", tmp_path / "out")
    assert [run.id for run in study.runs] == ["b"]
    assert 'id="crossed"' in page
    assert page.index('id="results"') < page.index('id="crossed"')
    assert "They are not compared with the runs above" in page


def test_a_page_of_runs_with_a_split_says_nothing_of_folds(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "b")
    assert "ross-validated" not in page_of(tmp_path / "runs", tmp_path / "out")[1]
