"""Volumes become eyes and participants by the mean of logits, every eye counting once."""

import numpy as np
import pytest

from classify.fitting.aggregate import aggregate_levels
from classify.heads.contract import softmax
from classify.run.predictions import Predictions, pick_predictions, stack_predictions


def volumes() -> tuple[Predictions, np.ndarray]:
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]]))
    person = np.array(["1002", "1002", "1002", "1001"])
    unit = np.array(["d", "c", "b", "a"])
    label = np.array([1, 1, 1, 0], dtype=np.int64)
    eye = np.array(["L", "L", "R", "U"])
    return Predictions("m", "volume", "val", unit, person, label, logits, softmax(logits)), eye


def test_every_eye_counts_once() -> None:
    parts, eye = volumes()
    levels = aggregate_levels(parts, eye)
    assert levels["eye"].unit.tolist() == ["1001:U", "1002:L", "1002:R"]
    assert levels["participant"].unit.tolist() == levels["participant"].participant.tolist() == ["1001", "1002"]
    assert levels["participant"].label.tolist() == [0, 1]
    left = parts.logits[:2].mean(axis=0)
    np.testing.assert_allclose(levels["eye"].logits[1], left)
    np.testing.assert_allclose(levels["participant"].logits[1], (left + parts.logits[2]) / 2)
    np.testing.assert_allclose(levels["participant"].probability, softmax(levels["participant"].logits))


def test_predictions_survive_their_table() -> None:
    parts, eye = volumes()
    levels = aggregate_levels(parts, eye)
    table = stack_predictions(levels.values())
    assert table.columns.tolist() == [
        "model", "level", "split", "unit", "participant", "label",
        "probability_0", "probability_1", "logit_0", "logit_1",
    ]  # fmt: skip
    for level, expected in levels.items():
        again = pick_predictions(table, model="m", level=level, split="val")
        assert again.unit.tolist() == expected.unit.tolist()
        assert again.logits == pytest.approx(expected.logits)
