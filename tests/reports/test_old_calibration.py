"""Runs that were calibrated before probabilities had a prevalence stay readable, and their pages say what they are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_run import build_run

from classify.judging.calibrate import CALIBRATION
from reports.case import _probabilities, judged_people
from reports.model_card import card_sections
from reports.runs import FinishedRun, read_runs
from reports.validity import validity_tables

WORDS = "temperature only, at balanced classes"
MEASURED = {"log_loss": 1.2, "expected_calibration_error": 0.1, "reliability": []}


@pytest.fixture
def old(tmp_path: Path) -> FinishedRun:
    """A run with the calibration of its time: one temperature of val, no prevalence, nothing by class."""
    level = {"parameters": {"temperature": 2.0}, "before": MEASURED, "after": MEASURED}
    levels = dict.fromkeys(("volume", "eye", "participant"), level)
    record = {"method": "temperature", "folds": 5, "seed": 0, "levels": levels}
    change = {"calibration": record, "seeds": {"folds": 0, "bootstrap": 0}}
    folder = build_run(tmp_path / "runs", "20260101-000000-linear-four-class-00000a", model="linear", change=change)
    parameters = {name: {"temperature": 2.0} for name in levels}
    (folder / "model" / CALIBRATION).write_text(json.dumps({"method": "temperature", "parameters": parameters}))
    (run,) = read_runs(folder.parent)
    return run


def test_every_page_says_that_it_is_a_temperature_at_balanced_classes(old: FinishedRun) -> None:
    card = dict(line for _, lines in card_sections(old) for line in lines)
    assert card["Probabilities"] == WORDS
    assert card["Prevalence"] == "none: probabilities are at balanced classes"
    tables = {table.anchor: table for table in validity_tables(old)}
    assert WORDS in tables["calibration"].caption
    assert "prevalence" not in tables["calibration"].caption
    assert "calibration-by-class" not in tables
    assert _probabilities(old) == f"{WORDS[0].upper()}{WORDS[1:]}."


def test_its_validation_is_calibrated_each_by_the_others_but_not_where_it_has_one_class(old: FinishedRun) -> None:
    people = judged_people(old)
    assert people is not None
    assert not np.allclose(people.probability, people.scores)
    path = old.run.folder / "predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[table["split"] == "val", "label"] = 0
    table.to_parquet(path)
    (alone,) = read_runs(old.run.folder.parent)
    assert judged_people(alone) is None
