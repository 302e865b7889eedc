"""The learning curve: nested draws of whole people, rising where there is something to learn, absent where need be."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import make_study
from hypothesis import given
from hypothesis import strategies as st

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import find_task
from classify.features.table import FeatureTable, make_features
from classify.fitting.model import ModelSpec, fit_model
from classify.judging.learning import check_fractions, draw_subsets, trace_curve
from classify.run.typed_record import plain
from embeddings_store.errors import UsageError

CLASSES = ("healthy", "lifestyle", "oral", "insulin")
FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def features(folder: Path, participants: int, effect: float, seed: int = 0) -> FeatureTable:
    study = make_study(participants, effect=effect, seed=seed)
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), find_task("four-class"))
    return make_features(cohort, stored.pooled, stored.space, layer="last", pools=("mean",))


def trace(table: FeatureTable, spec: ModelSpec | None = None, **options: Any) -> list[dict[str, Any]]:
    asked = {"fractions": FRACTIONS, "repeats": 3, "replicates": 100, "seed": 0} | options
    return trace_curve(
        spec or ModelSpec("linear", {"C": 0.01}),
        table.only("train"),
        table.only("val"),
        CLASSES,
        tell=lambda said: None,
        **asked,
    )


@given(
    classes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    scans=st.integers(1, 4),
    fractions=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 5),
)
def test_draws_are_nested_stratified_and_of_whole_people(
    classes: list[int], scans: int, fractions: list[float], seed: int
) -> None:
    label = np.repeat(np.arange(len(classes)), classes)
    people = np.array([f"{number:03d}" for number in np.random.default_rng(1).permutation(len(label))])
    participant, y = np.repeat(people, scans), np.repeat(label, scans)
    rising = check_fractions(fractions)
    drawn = draw_subsets(participant, y, rising, seed=seed)
    for small, large in pairwise(drawn):
        assert set(small.tolist()) <= set(large.tolist())
    label_of = dict(zip(people.tolist(), label.tolist(), strict=True))
    for fraction, subset in zip(rising, drawn, strict=True):
        assert len(set(subset.tolist())) == len(subset)
        counts = np.bincount([label_of[name] for name in subset.tolist()], minlength=len(classes))
        assert (np.abs(counts - fraction * np.array(classes)) <= 0.5 + 1e-9).all()


def test_the_curve_rises_where_there_is_something_to_learn(tmp_path: Path) -> None:
    points = trace(features(tmp_path, 320, effect=1.2), repeats=5)
    auroc = [point["macro_auroc"].value for point in points]
    assert auroc[0] + 0.03 < auroc[-1]
    assert min(np.diff(auroc)) > -0.03
    assert points[0]["difference_to_all"]["macro_auroc"].value == pytest.approx(auroc[0] - auroc[-1])
    assert [point["participants"] for point in points] == [16, 32, 64, 96, 128, 160]
    assert [point["volumes"] for point in points] == [64, 128, 256, 384, 512, 640]


def test_the_curve_stays_at_chance_where_there_is_nothing(tmp_path: Path) -> None:
    for point in trace(features(tmp_path, 320, effect=0.0, seed=3)):
        assert point["macro_auroc"].low < 0.5 < point["macro_auroc"].high


def test_all_of_train_is_the_model_itself(tmp_path: Path) -> None:
    table = features(tmp_path, 96, effect=1.0)
    points = trace(table, fractions=(0.5, 1.0))
    whole = fit_model(ModelSpec("linear", {"C": 0.01}), table.only("train"), classes=4, seed=0)
    people = whole.predict(table.only("val"), classes=4, split="val")["participant"]
    right = people.probability.argmax(axis=1) == people.label
    recall = np.mean([right[people.label == number].mean() for number in range(4)])
    assert points[-1]["balanced_accuracy"].value == pytest.approx(recall)
    assert points[-1]["repeats"] == 1
    assert points[-1]["balanced_accuracy"].more == {"spread": None}
    assert points[0]["repeats"] == 3
    spread = points[0]["macro_auroc"].more["spread"]
    assert spread["low"] <= points[0]["macro_auroc"].value <= spread["high"]


def test_a_point_without_a_class_is_absent_with_its_reason(tmp_path: Path) -> None:
    table = features(tmp_path, 64, effect=1.0)
    points = trace(table, fractions=(0.05, 1.0))
    assert points[0]["absent"] == "at 0.05 of train, nobody is healthy, lifestyle, oral, insulin"
    assert "macro_auroc" not in points[0]
    assert points[1]["macro_auroc"].value is not None
    json.dumps(plain(points), allow_nan=False)


@pytest.mark.parametrize("wrong", [(), (0.0, 1.0), (0.5, 1.2), (0.5, 0.5)])
def test_fractions_that_are_none_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="--fractions: expected"):
        check_fractions(wrong)
