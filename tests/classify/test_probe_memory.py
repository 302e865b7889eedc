"""A probe of many rows holds its features, and one fold of them, but no copy for each fold, target or precision."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import space

from classify.cohort.table import Cohort
from classify.cohort.tasks import TASKS
from classify.features.standardise import BLOCK_NUMBERS
from classify.features.table import FeatureChoice
from classify.fitting.model import ModelSpec, fit_model, predict_held_out
from classify.fitting.source import FeatureSource
from classify.heads import linear, multinomial
from classify.judging import nuisance
from classify.reference import novelty
from classify.reference.training import remember_train
from classify.search.search import SearchPlan, choose_model
from classify.search.spaces import GRIDS

ROWS, WIDTH, SCANS = 2_880, 384, 8
CHOICE = FeatureChoice()
GRID = [{"C": strength} for strength in (1e-3, 1e-2)]


@pytest.fixture(scope="module")
def source() -> FeatureSource:
    person, rng = np.arange(ROWS) // SCANS, np.random.default_rng(0)
    pooled = rng.standard_normal((ROWS, 1, 1, WIDTH), dtype=np.float32)
    pooled[..., 0] += (person % 4)[:, None, None]
    name = [f"1{number:04d}" for number in person]
    table = pd.DataFrame(
        {
            "volume": [f"{row:08d}" for row in range(ROWS)], "participant": name, "eye": ["L", "R"] * (ROWS // 2),
            "device": "a", "protocol": "b", "site": ["UW"] * ROWS, "age": 50.0 + person % 30, "label": person % 4,
            "split": np.where(person % 5 == 0, "val", "train"),
        }
    )  # fmt: skip
    cohort = Cohort(table, np.arange(ROWS), TASKS["four-class"], phantom=True)
    stored = replace(space(), width=WIDTH, layers=("last",), pools=("mean",))
    return FeatureSource(cohort, pooled, stored)


def searched(source: FeatureSource) -> None:
    choose_model(SearchPlan("linear"), source, runs=Path(), facts={}, tell=print)


def fitted(source: FeatureSource) -> None:
    fit_model(ModelSpec("linear", GRID[0]), source.table(CHOICE), classes=4, seed=0)


def held_out(source: FeatureSource) -> None:
    table = source.table(CHOICE)
    predict_held_out(fit_model(ModelSpec("linear", GRID[0]), table, classes=4, seed=0), table, classes=4, seed=0)


def remembered(source: FeatureSource) -> None:
    lines = source.cohort.table.assign(intensity_mean=1.0)
    remember_train(CHOICE, source, lines, seed=0)


def guessed(source: FeatureSource) -> None:
    train, val = (source.only(split).table(CHOICE) for split in ("train", "val"))
    nuisance.probe_nuisance(train, val, source.cohort.table, replicates=10, seed=0)


@pytest.mark.parametrize(
    ("stage", "copies"), [(searched, 2.2), (fitted, 2.1), (held_out, 2.5), (remembered, 2.1), (guessed, 1.7)]
)
def test_a_stage_takes_few_times_its_features(
    source: FeatureSource, monkeypatch: pytest.MonkeyPatch, stage: Callable[[FeatureSource], None], copies: float
) -> None:
    monkeypatch.setattr(multinomial, "SINGLE_FROM", 1)
    monkeypatch.setattr(multinomial, "TURNED_TO", 0)
    monkeypatch.setitem(GRIDS, "linear", GRID)
    for module in (multinomial, linear, nuisance, novelty):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 128)
    monkeypatch.setattr("classify.features.standardise.BLOCK_NUMBERS", BLOCK_NUMBERS // 500)
    assert np.shares_memory(source.table(CHOICE).x, source.pooled)  # one pool of all rows is a view
    stage(source)  # what is imported, and kept, is there
    tracemalloc.start()
    stage(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < copies * source.pooled.nbytes, f"{peak / source.pooled.nbytes:.2f} times the features"
