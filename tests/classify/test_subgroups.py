"""Every group stands in the table with its n, and is judged by its own volumes only."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from classify.fitting.aggregate import aggregate_levels
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.subgroups import measure_subgroups, name_age_band
from classify.run.predictions import Predictions, rows_of

CLASSES = ("a", "b", "c", "d")


def make_volumes(participants: int = 48) -> tuple[Predictions, pd.DataFrame]:
    """Every participant has a scan of each device; device "good" knows the class, "bad" does not."""
    rng = np.random.default_rng(0)
    person = np.repeat([f"{1000 + number}" for number in range(participants)], 2)
    label = np.repeat(np.arange(participants) % 4, 2).astype(np.int64)
    good = np.tile([True, False], participants)
    logits = rng.normal(size=(len(label), 4)) + 4 * np.eye(4)[label] * good[:, None]
    unit = np.array([f"v{number}" for number in range(len(label))])
    age = np.repeat(rng.integers(40, 90, participants).astype(float), 2)
    age[:2] = np.nan
    table = pd.DataFrame(
        {
            "volume": unit,
            "participant": person,
            "eye": np.where(good, "L", "R"),
            "device": np.where(good, "good", "bad"),
            "protocol": np.where(good, "p", "q"),
            "site": np.repeat(np.where(np.arange(participants) < 4, "small", "large"), 2),
            "age": age,
        }
    )
    return Predictions("m", "volume", "val", unit, person, label, logits, softmax(logits)), table


def lines(by: str) -> dict[str, dict[str, Any]]:
    volumes, table = make_volumes()
    eye = table["eye"].to_numpy(str)

    def people_of(chosen: np.ndarray) -> Predictions:
        return aggregate_levels(rows_of(volumes, chosen), eye[chosen])["participant"]

    found = measure_subgroups(people_of, table, CLASSES, replicates=60, seed=0)
    return {str(line["value"]): line for line in found if line["by"] == by}


def test_a_group_is_judged_by_its_own_volumes() -> None:
    volumes, table = make_volumes()
    found = lines("device")
    good = (table["device"] == "good").to_numpy()
    own = replace(
        volumes,
        unit=volumes.unit[good],
        participant=volumes.participant[good],
        label=volumes.label[good],
        logits=volumes.logits[good],
        probability=volumes.probability[good],
    )
    expected, _ = measure(own, draw_replicates(own.participant, replicates=60, seed=0), CLASSES)
    assert found["good"]["macro_auroc"] == pytest.approx(expected["macro_auroc"])
    assert found["good"]["participants"] == found["bad"]["participants"] == 48
    assert found["bad"]["macro_auroc"].low < 0.5 < found["bad"]["macro_auroc"].high


def test_every_participant_of_a_site_is_counted_and_a_small_group_says_so() -> None:
    found = lines("site")
    assert (found["small"]["participants"], found["large"]["participants"]) == (4, 44)
    assert found["small"]["per_class"] == dict.fromkeys(CLASSES, 1)
    assert "this group" in str(found["small"]["caution"])
    assert found["large"]["caution"] is None


def test_age_bands_hold_everybody_once() -> None:
    assert [name_age_band(age) for age in (49.9, 50.0, 60.0, 69.9, 70.0, 119.0, np.nan)] == [
        "under 50", "50 to 59", "60 to 69", "60 to 69", "70 and over", "70 and over", "unknown",
    ]  # fmt: skip
    found = lines("age_band")
    assert sum(int(str(line["participants"])) for line in found.values()) == 48
    assert found["unknown"]["participants"] == 1
    assert found["unknown"]["macro_auroc"].absent
