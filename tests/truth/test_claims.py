"""What the pages claim is true in cohorts of known truth: the quick forms of rivals, boards and places.

Bounds are binomial: a rate at its promise passes, and one that has doubled fails (boards) or is likely to (the others,
whose studies are dear; ``python tests/truth/run.py --long`` counts more of them).
"""

from pathlib import Path

import maps_cohorts as maps
import numpy as np
import places_cohorts as places
import pytest
import rivals_cohorts as rivals
from boards_cohorts import MODELS, POWER, SETTINGS, Setting, balanced_accuracies, called_worse, draw, false_claims
from command_line import Command
from scipy.stats import binom

from classify.baselines.covariates import choose_baselines, describe_units
from classify.cohort.table import BRIGHTNESS
from classify.cohort.tasks import find_task
from classify.comparing.leaderboard import RANKED_BY, Entry, rank_entries, standing
from classify.judging.bootstrap import draw_replicates
from classify.run.predictions import Predictions
from reports.headline import CLAIMS


def test_an_embedding_that_knows_a_covariate_alone_is_not_called_better() -> None:
    said = [
        rivals.ask(rivals.draw(kind, seed, handed=True), names=names)
        for kind, names in rivals.HOLDS.items()
        for seed in range(3 * (kind != rivals.TRUE))
    ]
    assert sum(one.verdict == "better" for one in said) <= 1


def test_an_embedding_that_knows_the_retina_is_called_better() -> None:
    names = rivals.HOLDS[rivals.TRUE]
    said = [rivals.ask(rivals.draw(rivals.TRUE, seed, 1.8), names=names) for seed in range(4)]
    assert sum(one.verdict == "better" for one in said) >= 3


@pytest.mark.parametrize(("kind", "strength"), [("age, U-shaped", 1.0), (rivals.TRUE, 1.8)])
def test_page_and_terminal_say_what_the_functions_say(
    command: Command, tmp_path: Path, kind: str, strength: float
) -> None:
    truth = rivals.draw(kind, 3, strength)
    expected = rivals.ask(truth)
    rivals.fill(truth, tmp_path / "store")
    done = command(
        "classify", "probe", "--model", "linear", "--store", tmp_path / "store", "--task", rivals.TASK, "--runs",
        tmp_path / "runs", "--participants", truth.study.write(tmp_path), "--replicates", 500, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    page = command(
        "reports",
        "study",
        "--store",
        tmp_path / "store",
        "--runs",
        tmp_path / "runs",
        "--out",
        tmp_path / "page",
        "--json",
    )
    assert page.code == 0, page.stderr
    assert page.json["claim"] == CLAIMS[expected.verdict].format(
        rival=expected.rival, units="participants", first="balanced accuracy", second="macro AUROC"
    )
    apart = done.json["difference_to_baselines"][expected.rival]["balanced_accuracy"]
    assert apart["value"] == pytest.approx(expected.difference, abs=1e-12)
    last = "better than each of" if expected.verdict == "better" else "not shown to be better than each of"
    assert f"together: {last}" in " ".join(done.stderr.split())


def test_of_equal_models_none_is_called_worse_than_the_best() -> None:
    studies = 120
    cells = [(SETTINGS[0], 3), (SETTINGS[1], 12), (SETTINGS[2], 6), (SETTINGS[4], 6), (SETTINGS[5], 20)]
    found = sum(false_claims(setting, models, range(studies)) for setting, models in cells)
    assert found <= binom.ppf(0.999, studies * len(cells), 0.05)


@pytest.mark.parametrize("models", MODELS)
def test_a_model_that_is_worse_is_named(models: int) -> None:
    named = [f"m{models - 1}" in called_worse(draw(POWER, models, seed, 1.2), replicates=300) for seed in range(10)]
    assert sum(named) >= 9


@pytest.mark.parametrize("setting", [SETTINGS[1], SETTINGS[4]])
def test_the_shortcut_of_boards_is_what_compare_computes(setting: Setting) -> None:
    found = draw(setting, 6, 5)
    unit = np.array([f"{number:05d}" for number in range(len(found.label))])
    classes = tuple("abcd"[: found.scores.shape[2]])
    entries = []
    for number, score in enumerate(found.scores):
        chance = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
        said = Predictions("m", "volume", "val", unit, found.person, found.label, score, chance)
        entries.append(Entry(f"m{number}", "model", said, {}))
    board = rank_entries(entries, classes, replicates=200, seed=0)
    values = balanced_accuracies(found, draw_replicates(found.person, replicates=200, seed=0))
    for line in board.lines:
        assert line.metrics[RANKED_BY].value == pytest.approx(values[line.name][RANKED_BY][0], abs=1e-12)
    named = {line.name for line in board.lines if standing(line, board) == "worse than the best"}
    assert named == called_worse(found, replicates=200)


def test_no_place_is_called_leaned_on_without_a_confound_and_planted_ones_are() -> None:
    honest = [places.said_of(kind, seed) for kind in places.HONEST.values() for seed in range(2)]
    assert sum(map(bool, honest)) <= 1
    expected = {
        "class goes with the site, no other effect": "leans on the site",
        "the ill are marked at one site": "site macro_auroc",
        "the ill are marked on one device": "device macro_auroc",
        "as in a phantom, class goes with the device, 480 people": "leans on the device",
    }
    for name, words in expected.items():
        assert sum(words in places.said_of(places.CONFOUNDED[name], seed) for seed in range(3)) >= 1


def test_a_high_share_of_beaten_orders_does_not_say_that_a_map_is_right() -> None:
    half, none = (np.array([maps.beats(128, wrong, seed) for seed in range(40)]) for wrong in (0.5, 1.0))
    assert (half >= maps.PASSES).mean() > 0.5
    assert (none >= maps.PASSES).mean() < 0.3


@pytest.mark.parametrize("column", ["age", "site", BRIGHTNESS[0]])
def test_a_covariate_without_a_usable_value_makes_no_baseline(column: str) -> None:
    table = describe_units(rivals.join(rivals.draw(rivals.TRUE, 0)), "train")
    told = {"age": "age", "site": "site", BRIGHTNESS[0]: "raw intensity statistics"}[column]
    for value in ["UW"] if column == "site" else [np.nan, 50.0]:
        names, missing = choose_baselines(find_task(rivals.TASK), table.assign(**{column: value}))
        assert told not in names
        reasons = {line["name"]: line["reason"] for line in missing}
        assert reasons[told]
        if column in {"age", "site"}:
            assert {"age+site", "embedding+age+site"} <= set(reasons)
