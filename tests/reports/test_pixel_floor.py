"""Where the label lies in the pixels and the encoder does not see it, no page says that the embedding is better."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from classify_study import Study, make_study, pictured

from classify.baselines import PIXELS
from classify.evaluate import EvaluateOptions, evaluate
from classify.probe import ProbeOptions, probe
from reports.headline import make_headline
from reports.runs import FinishedRun, read_runs

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def finished(study: Study, folder: Path) -> FinishedRun:
    options = ProbeOptions(model="linear", replicates=200, runs=folder / "runs", participants=study.write(folder))
    probe(options, now=NOW, read=lambda: study.stored)
    return read_runs(folder / "runs")[0]


def test_the_verdict_compares_with_the_pixel_floor(tmp_path: Path) -> None:
    """The embedding is a little better than guessing; the pixels are better than it."""
    study = pictured(make_study(192, effect=0.3), effect=30)
    run = finished(study, tmp_path)
    assert run.record["baselines"][PIXELS]["val"]["macro_auroc"]["value"] > 0.85
    assert PIXELS in run.rivals("balanced_accuracy")
    said = make_headline([run])
    assert said.verdict == "worse"
    assert said.claim.endswith("worse than pixels does.")

    options = EvaluateOptions(run.folder, study.write(tmp_path), "test", replicates=50)
    record = evaluate(options, now=NOW, read=lambda record: study.stored).record
    assert record["baselines"][PIXELS]["test"]["macro_auroc"]["value"] > 0.8


@pytest.mark.parametrize("has_pictures", [True, False])
def test_what_is_better_than_pixels_without_an_effect_may_be_claimed(tmp_path: Path, has_pictures: bool) -> None:
    study = make_study(192, effect=1.0)
    run = finished(pictured(study, effect=0) if has_pictures else study, tmp_path)
    said = make_headline([run])
    assert said.verdict == "better"
    missing = {line["name"]: line["reason"] for line in run.record["baselines_missing"]}
    assert (PIXELS in missing) != has_pictures
    assert any("pixels: the store has no thumbnails" in sentence for sentence in said.sentences) != has_pictures
