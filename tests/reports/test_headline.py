"""The headline claims nothing that the interval does not carry."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from simulated_run import build_run

from classify.run.estimate import Estimate
from reports.encoders import encoder_part
from reports.headline import CLAIMS, judge, make_headline, number, spell
from reports.runs import read_runs

finite = st.floats(-1, 1)


ABOVE = Estimate(0.5, 0.4, 0.6)


@given(low=finite, value=finite, high=finite)
def test_only_an_interval_that_excludes_zero_supports_a_claim(low: float, value: float, high: float) -> None:
    low, value, high = sorted((low, value, high))
    assume(low < high)
    verdict = judge(ABOVE, Estimate(value, low, high), chance=0.25)
    assert (verdict == "better") == (low > 0)
    assert (verdict == "worse") == (high < 0)
    assert (verdict == "no difference") == (low <= 0 <= high)


@pytest.mark.parametrize("own", [Estimate(0.4, 0.25, 0.5), Estimate(0.4), Estimate(0.3, 0.1, 0.5)])
def test_above_a_poor_baseline_but_not_above_guessing_is_no_claim(own: Estimate) -> None:
    assert judge(own, Estimate(0.2, 0.1, 0.3), chance=0.25) == "not above guessing"


@pytest.mark.parametrize("unknown", [Estimate(absent="r"), Estimate(0.2), Estimate(0.2, 0.1, None)])
def test_without_an_interval_nothing_is_claimed(unknown: Estimate) -> None:
    assert judge(ABOVE, unknown, chance=0.25) == "not compared"


def test_of_few_participants_nothing_is_claimed() -> None:
    for low in (-0.3, 0.1):
        assert judge(ABOVE, Estimate(low + 0.1, low, low + 0.2), chance=0.25, few=True) == "too few"


def with_people(folder: Path, count: int) -> None:
    """Let the smallest class of val have so many participants."""
    record = json.loads((folder / "run.json").read_text())
    per_class = dict.fromkeys(record["classes"], 30) | {record["classes"][0]: count}
    splits = record["splits"] | {"val": record["splits"]["val"] | {"per_class": per_class}}
    (folder / "run.json").write_text(json.dumps(record | {"splits": splits}))


def headline_of(
    tmp_path: Path,
    difference: dict[str, Any],
    *,
    strength: float = 1.0,
    smallest_class: int = 10,
    ranking: dict[str, Any] | None = None,
) -> tuple[str, str]:
    change = {"difference_to_age_site": {"balanced_accuracy": difference, "macro_auroc": ranking or difference}}
    with_people(build_run(tmp_path, "a", model="linear", strength=strength, change=change), smallest_class)
    headline = make_headline(read_runs(tmp_path))
    return headline.claim, " ".join(headline.sentences)


def test_a_class_of_nine_is_too_few(tmp_path: Path) -> None:
    claim, _ = headline_of(tmp_path, {"value": 0.12, "low": 0.05, "high": 0.19}, strength=3.0, smallest_class=9)
    assert claim == CLAIMS["too few"].format(units="participants")


def test_an_interval_that_includes_zero_is_no_claim(tmp_path: Path) -> None:
    claim, text = headline_of(tmp_path, {"value": 0.02, "low": -0.05, "high": 0.09})
    assert claim == CLAIMS["no difference"]
    assert "+0.020 (95 % interval −0.050 to +0.090)" in text


def test_a_clear_difference_is_claimed_for_validation_only(tmp_path: Path) -> None:
    claim, text = headline_of(tmp_path, {"value": 0.12, "low": 0.05, "high": 0.19}, strength=3.0)
    assert claim.startswith("On validation participants")
    assert "Only an evaluation on the locked test split can confirm it" in text


def test_a_difference_by_one_number_alone_is_no_claim(tmp_path: Path) -> None:
    difference, ranking = {"value": 0.12, "low": 0.05, "high": 0.19}, {"value": 0.02, "low": -0.01, "high": 0.05}
    claim, _ = headline_of(tmp_path, difference, strength=3.0, ranking=ranking)
    assert claim == CLAIMS["one number"].format(first="balanced accuracy", second="macro AUROC")


def test_an_absent_difference_says_its_reason(tmp_path: Path) -> None:
    claim, text = headline_of(tmp_path, {"absent": "no unit of class healthy"})
    assert claim == CLAIMS["not compared"]
    assert "absent (no unit of class healthy)" in text


def test_the_best_of_several_runs_is_called_optimistic(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        build_run(tmp_path, name, model="linear")
    assert "best of 3 runs" in make_headline(read_runs(tmp_path)).sentences[-1]


def test_no_number_no_best_run(tmp_path: Path) -> None:
    folder = build_run(tmp_path, "a", model="linear")
    record = json.loads((folder / "run.json").read_text())
    record["metrics"] = {}
    (folder / "run.json").write_text(json.dumps(record))
    headline = make_headline(read_runs(tmp_path))
    assert headline.verdict == "nothing"
    assert headline.run is None


def test_numbers_have_a_true_minus_and_no_minus_zero() -> None:
    assert number(-0.0001) == "0.000"
    assert number(-0.25) == "−0.250"
    assert number(0.25, signed=True) == "+0.250"
    assert spell(Estimate(0.5)) == "0.500 (no interval)"


@pytest.mark.parametrize(("training", "is_said"), [("random", True), ("barely", True), ("trained", False)])
def test_untrained_weights_are_said_of_the_runs_that_have_them(tmp_path: Path, training: str, is_said: bool) -> None:
    source = {"name": "best.pt", "family": "vjepa3d", "weights_sha256": "", "epoch": 1, "training": training,
              "reason": "the doctor's words"}  # fmt: skip
    build_run(tmp_path, "a", model="linear", participants=40, change={"encoder_source": source})
    build_run(tmp_path, "b", model="linear", participants=40)
    said = encoder_part(read_runs(tmp_path))["untrained"]
    assert (
        "No number on this page says what pretraining has learned. This holds for 1 of 2 runs: a" in said
    ) == is_said
    assert bool(said) == is_said
