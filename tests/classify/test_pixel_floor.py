"""Where the label lies in the pixels and the encoder does not see it, no page says that the embedding is better."""

import io
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, fill_store, make_study, pictured
from PIL import Image

from classify.baselines.covariates import PIXELS
from classify.evaluate import evaluate
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run_options import EvaluateOptions
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from reports.case import Opened, OpenedStore, write_cases
from reports.headline import make_headline
from reports.options import CaseOptions
from reports.runs import FinishedRun, read_runs

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def finished(study: Study, folder: Path) -> FinishedRun:
    options = ProbeOptions(
        store="store", model="linear", replicates=200, runs=folder / "runs", participants=study.write(folder)
    )
    probe(options, now=NOW, read=lambda *_: study.stored)
    return read_runs(folder / "runs")[0]


def test_the_verdict_compares_with_the_pixel_floor(tmp_path: Path) -> None:
    """The embedding is a little better than guessing; the pixels are better than it."""
    study = pictured(make_study(192, effect=0.3), effect=30)
    run = finished(study, tmp_path)
    assert run.record.judged.baselines[PIXELS]["val"]["macro_auroc"].value > 0.85
    assert PIXELS in run.rivals("balanced_accuracy")
    said = make_headline([run])
    assert said.verdict == "worse"
    assert said.claim.endswith("worse than pixels does.")

    options = EvaluateOptions(
        store="store", run=run.folder, participants=study.write(tmp_path), split="test", replicates=50
    )
    record = evaluate(options, now=NOW, read=lambda *_: study.stored).record
    assert record.judged.baselines[PIXELS]["test"]["macro_auroc"].value > 0.8


@pytest.mark.parametrize("has_pictures", [True, False])
def test_what_is_better_than_pixels_without_an_effect_may_be_claimed(tmp_path: Path, has_pictures: bool) -> None:
    study = make_study(192, effect=1.0)
    run = finished(pictured(study, effect=0) if has_pictures else study, tmp_path)
    said = make_headline([run])
    assert said.verdict == "better"
    missing = {line["name"]: line["reason"] for line in run.record.rivals.baselines_missing}
    assert (PIXELS in missing) != has_pictures
    assert any("pixels: the store has no thumbnails" in sentence for sentence in said.sentences) != has_pictures


def test_a_case_page_shows_the_thumbnail_where_there_is_no_bucket(tmp_path: Path) -> None:
    """Two eyes by two protocols; the last quarter of the volumes has none, and their place says so."""
    study, store = pictured(make_study(64), effect=30, known=0.75), tmp_path / "store"
    fill_store(study, store)
    stored = read_features_source(str(store))
    run = finished(Study(study.people, stored), tmp_path)
    val = study.people.query("recommended_split == 'val'")["participant_id"].tolist()
    asked = CaseOptions(runs=tmp_path / "runs", out=tmp_path / "out", run=run.id, participants=(val[0], val[-1]))
    opened = Opened(OpenedStore(open_reader(str(store)), stored), None)
    with_it, without = (case.page.read_text() for case in write_cases(asked, opened, now=NOW))
    assert with_it.count("32 x 32 thumbnail of the store: 8 slices") == 4
    assert with_it.count('alt="Thumbnail, slice 8 of 8"') == 4
    assert with_it.count("No B-scans, but the thumbnail of the store: no --bucket was given.") == 4
    assert "No pictures, and no thumbnail in the store: no --bucket was given." in without
    assert "thumbnail" not in without.lower().replace("no thumbnail", "")
    assert stored.thumbnails is not None
    row = int((stored.index["participant"] == val[0]).to_numpy().argmax())
    picture = with_it.partition("base64,")[2].partition('"')[0]
    drawn = np.asarray(Image.open(io.BytesIO(b64decode(picture))))
    assert any((drawn == stored.thumbnails.images[place, 0]).all() for place in range(row, row + 4))
