"""A run that is asked from Python says what the command writes, and refuses vectors that it would misread."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study
from test_evaluate import probed

from classify.fitting.model import load_model
from classify.fitting.source import features_of_run, source_of_run
from classify.predict import predict
from classify.run.folder import Run, load_run
from classify.run_options import PredictOptions
from embeddings_store.errors import UsageError


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(effect=1.0)


@pytest.fixture(scope="module")
def run(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("probe")
    return load_run(probed(study, folder, layer="last", pools=("mean",)).folder)


def said_by_the_command(run: Run, study: Study, folder: Path) -> pd.DataFrame:
    return predict(
        PredictOptions(store="store", run=run.folder, out=folder / "out.csv"), read=lambda *_: study.stored
    ).table


def test_a_snapshot_gives_what_the_command_writes(run: Run, study: Study, tmp_path: Path) -> None:
    expected = said_by_the_command(run, study, tmp_path)
    pd.testing.assert_frame_equal(run.predict(study.stored), expected, rtol=0, atol=1e-12)


def test_raw_features_give_the_same_numbers(run: Run, study: Study, tmp_path: Path) -> None:
    expected = said_by_the_command(run, study, tmp_path).set_index(["level", "unit"])
    raw = source_of_run(run, study.stored).table(load_model(run).features)
    found = run.predict(raw.where(raw.split != "test")).set_index(["level", "unit"])
    columns = [name for name in found.columns if name.startswith("probability_")]
    assert len(found) == 48 * (4 + 2 + 1)
    np.testing.assert_allclose(found[columns], expected.loc[found.index, columns], rtol=0, atol=1e-12)


def test_what_is_standardised_unlabelled_or_of_other_features_is_refused(run: Run, study: Study) -> None:
    raw = source_of_run(run, study.stored).table(load_model(run).features)
    other = replace(raw, names=tuple(name.replace("mean", "max") for name in raw.names))
    with pytest.raises(UsageError, match="expected raw ones, got standardised ones"):
        run.predict(features_of_run(run, study.stored))
    with pytest.raises(UsageError, match="expected 6 features of layer last, pools mean"):
        run.predict(other)
    for table in (study.stored.frame("last", "mean"), pd.DataFrame(raw.x)):
        with pytest.raises(UsageError, match=r"expected a snapshot.*got DataFrame"):
            run.predict(table)
    with pytest.raises(UsageError, match="got ndarray"):
        run.predict(raw.x)
