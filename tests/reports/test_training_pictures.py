"""Curves of fine-tuning: what is drawn, which epoch is marked, and what the caption says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_run import build_run
from simulated_study import NOW, simulated_facts, simulated_features

from reports.options import StudyOptions
from reports.runs import FinishedRun, read_runs
from reports.study import write_study
from reports.training_pictures import picture_training, read_training


def epoch(stage: str, number: int, score: float | None, loss: float, **more: float) -> dict[str, Any]:
    return {
        "stage": stage,
        "epoch": number,
        "train_loss": loss + 0.3,
        "val_balanced_accuracy": score,
        "val_log_loss": loss,
        "learning_rate": 0.01 / number,
        **more,
    }


HISTORY = [
    epoch("head", 1, None, 1.4, encoder_learning_rate=0.0),
    epoch("head", 2, 0.40, 1.3, encoder_learning_rate=0.0),
    epoch("last", 1, 0.55, 1.1, encoder_learning_rate=1e-4),
    epoch("last", 2, 0.50, 1.2, encoder_learning_rate=5e-5),
    epoch("all", 1, 0.45, 1.3, encoder_learning_rate=1e-5),
]
PARAMETERS = {
    "stages": ["head", "last", "all"],
    "history": HISTORY,
    "selection": {"metric": "balanced_accuracy", "best": HISTORY[2]},
    "stages_compared": {"note": "stage all did not improve on stage last on val"},
    "caution": "val chose the best epoch, so its numbers are optimistic",
    "encoder": {"weights_sha256": "ab" * 32},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    build_run(folder, "tuned", model="finetune", change={"parameters": PARAMETERS})
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> FinishedRun:
    return read_runs(runs)[0]


def test_epochs_are_counted_over_all_stages_and_the_chosen_one_is_found() -> None:
    training = read_training(PARAMETERS)
    assert training.stages == (("head", 1, 2), ("last", 3, 4), ("all", 5, 5))
    assert training.chosen == 3  # the first of stage "last", not of "head"
    np.testing.assert_array_equal(training.values["val_balanced_accuracy"], [np.nan, 0.40, 0.55, 0.50, 0.45])
    np.testing.assert_array_equal(training.values["encoder_learning_rate"], [0, 0, 1e-4, 5e-5, 1e-5])


def test_an_older_record_without_some_fields_is_drawn_too(run: FinishedRun) -> None:
    older = [{name: value for name, value in one.items() if name != "encoder_learning_rate"} for one in HISTORY]
    training = read_training({"history": older})
    assert np.isnan(training.values["encoder_learning_rate"]).all()
    assert training.chosen is None
    build_run(run.folder.parent.parent / "older", "b", model="finetune", change={"parameters": {"history": older}})
    picture = picture_training(read_runs(run.folder.parent.parent / "older")[0])
    assert picture is not None
    assert "no epoch is marked as chosen" in picture.caption.lower()


def test_the_caption_says_it_in_words(run: FinishedRun) -> None:
    picture = picture_training(run)
    assert picture is not None
    for words in (
        "head: epochs 1 to 2; last: epochs 3 to 4; all: epoch 5",
        "the weights of epoch 3 were kept, which did best on validation (balanced accuracy 0.550)",
        "Stage all did not improve on stage last on val.",
        "its numbers are optimistic.",
        "not that of validation",
    ):
        assert words in picture.caption
    assert "Balanced accuracy of validation: absent, 0.400, 0.550, 0.500, 0.450" in picture.alt
    assert picture.data_uri.startswith("data:image/svg+xml;base64,")


def test_a_probe_has_no_such_curves(tmp_path: Path) -> None:
    build_run(tmp_path, "a", model="linear")
    assert picture_training(read_runs(tmp_path)[0]) is None


def test_the_study_page_shows_them(runs: Path, tmp_path: Path) -> None:
    build_run(runs, "probe", model="linear")
    options = StudyOptions(store="store", runs=runs, out=tmp_path)
    page = write_study(options, facts=simulated_facts(), features_of=simulated_features, now=NOW).page.read_text()
    assert page.count('<figure id="training-') == 1
    assert '<figure id="training-tuned">' in page
    assert '<a href="#training">' in page
