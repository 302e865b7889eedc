"""The leaderboard: differences are paired, the same people stand everywhere, and being first of many is no proof."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from classify.comparing.board import Board, Kind, Line
from classify.comparing.leaderboard import Entry, count_worse, rank_entries, standing
from classify.errors import CohortError
from classify.judging.bootstrap import draw_replicates, measure, summarise
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, rows_of

CLASSES = ("no", "yes")
PEOPLE = np.array([f"{number:04d}" for number in range(120)])
LABEL = np.arange(120) % 2


def predicted(score: np.ndarray, people: np.ndarray = PEOPLE, label: np.ndarray = LABEL) -> Predictions:
    """A model that says yes with the logistic of a score."""
    logits = np.column_stack([np.zeros(len(score)), score]).astype(np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions("model", "participant", "val", people, people, label.astype(np.int64), logits, probability)


def entry(name: str, people: Predictions, kind: Kind = "model", **options: Any) -> Entry:
    return Entry(name, kind, people, {"model": name}, **options)


def correlated(effect: float, noise: float, seed: int = 0) -> tuple[Predictions, Predictions]:
    """Two models that err on the same people, since most of their score is shared."""
    rng = np.random.default_rng(seed)
    shared = effect * (LABEL - 0.5) + rng.normal(0, 1, len(LABEL))
    return predicted(shared + rng.normal(0, noise, len(LABEL))), predicted(shared + rng.normal(0, noise, len(LABEL)))


def rank(*entries: Entry, seed: int = 3, replicates: int = 400) -> Board:
    return rank_entries(entries, CLASSES, replicates=replicates, seed=seed)


def line(board: Board, name: str) -> Line:
    return next(line for line in board.lines if line.name == name)


def width(measured: Mapping[str, float]) -> float:
    return measured.high - measured.low


def test_differences_equal_a_direct_computation() -> None:
    good, bad = predicted(3.0 * LABEL - 1.5), correlated(1.0, 0.3)[0]
    board = rank(entry("bad", bad, twin="good"), entry("good", good))
    drawn = draw_replicates(PEOPLE, replicates=400, seed=3)
    (_, ours), (_, theirs) = measure(bad, drawn, CLASSES), measure(good, drawn, CLASSES)
    for metric in ("balanced_accuracy", "macro_auroc"):
        expected = summarise(ours[metric] - theirs[metric], "")
        for kind in ("difference_to_best", "difference_to_random_twin"):
            found = getattr(line(board, "bad"), kind)[metric]
            assert replace(found, simultaneous=None) == expected
    assert board.best == "good"
    assert [one.name for one in board.lines] == ["good", "bad"]
    assert line(board, "good").difference_to_best is None


def test_a_paired_interval_is_narrower_where_models_err_on_the_same_people() -> None:
    one, two = correlated(1.0, 0.2)
    board = rank(entry("one", one), entry("two", two))
    other = "two" if board.best == "one" else "one"
    drawn = [draw_replicates(PEOPLE, replicates=400, seed=seed) for seed in (3, 4)]
    values = [measure(part, draw, CLASSES)[1] for part, draw in zip((one, two), drawn, strict=True)]
    for metric in ("balanced_accuracy", "macro_auroc"):
        unpaired = np.percentile(values[0][metric] - values[1][metric], [2.5, 97.5])
        assert width(line(board, other).difference_to_best[metric]) < 0.7 * (unpaired[1] - unpaired[0])


def test_nobody_is_crowned_where_nothing_is() -> None:
    rng = np.random.default_rng(8)
    board = rank(*(entry(f"model {n}", predicted(rng.normal(size=120))) for n in range(12)), replicates=1000)
    best = line(board, board.best).metrics["balanced_accuracy"]
    assert best.value > 0.55
    assert board.best_of_n.compared == 12
    corrected = board.best_of_n.corrected["balanced_accuracy"]
    assert corrected.value < best.value - 0.03
    assert corrected.low < 0.5 < corrected.high
    simultaneous = [
        one.difference_to_best["balanced_accuracy"].simultaneous for one in board.lines if one.name != board.best
    ]
    assert sum(interval["high"] < 0 for interval in simultaneous) <= 1


def test_the_choice_among_equals_costs_what_a_simulation_says() -> None:
    """Over many null studies the corrected number is about a half, which the best line itself is far above."""
    best, corrected = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        board = rank(*(entry(f"{n}", predicted(rng.normal(size=120))) for n in range(8)), replicates=200)
        best.append(board.lines[0].metrics["balanced_accuracy"].value)
        corrected.append(board.best_of_n.corrected["balanced_accuracy"].value)
    assert np.mean(best) > 0.55
    assert abs(np.mean(corrected) - 0.5) < abs(np.mean(best) - 0.5) / 2


def test_a_clear_winner_stays_one() -> None:
    rng = np.random.default_rng(1)
    others = [entry(f"noise {n}", predicted(rng.normal(size=120))) for n in range(6)]
    board = rank(entry("good", predicted(3.0 * LABEL - 1.5 + rng.normal(0, 1, 120))), *others)
    assert board.best == "good"
    assert all(one.difference_to_best["balanced_accuracy"].simultaneous["high"] < 0 for one in board.lines[1:])
    assert [standing(one, board) for one in board.lines] == ["best", *["worse than the best"] * 6]
    assert "6 of the other 6 models are shown to be worse" in count_worse(board)
    assert board.best_of_n.corrected["balanced_accuracy"].low > 0.6


def test_simultaneous_intervals_are_wider_and_hold_the_estimate() -> None:
    rng = np.random.default_rng(1)
    board = rank(*(entry(f"{n}", predicted(LABEL + rng.normal(size=120))) for n in range(6)), replicates=1000)
    for one in board.lines[1:]:
        measured = one.difference_to_best["macro_auroc"]
        ends = list(measured.simultaneous.values())
        assert np.ptp(ends) > width(measured)
        assert np.mean(ends) == pytest.approx(measured.value)


def test_only_people_that_all_predicted_are_used() -> None:
    one, two = correlated(1.0, 0.5)
    fewer = rows_of(two, np.random.default_rng(0).permutation(120)[:90])
    board = rank(entry("one", one), entry("two", fewer))
    assert board.participants == 90
    assert {found.name: found.participants for found in board.lines} == {"one": 120, "two": 90}
    kept = np.isin(PEOPLE, fewer.participant)
    direct = rank(entry("one", rows_of(one, kept)), entry("two", rows_of(two, kept)))
    assert line(board, "two").metrics == line(direct, "two").metrics
    assert line(board, "one").metrics == line(direct, "one").metrics


def test_a_baseline_has_a_line_and_is_never_the_best() -> None:
    board = rank(entry("model", correlated(0.5, 1.0)[0]), entry("age", predicted(3.0 * LABEL - 1.5), "baseline"))
    assert board.best == "model"
    assert board.best_of_n.compared == 1
    assert board.lines[0].name == "age"
    assert line(board, "age").difference_to_best["balanced_accuracy"].low > 0


def test_people_with_two_labels_and_strangers_are_refused() -> None:
    one, _ = correlated(1.0, 0.5)
    with pytest.raises(CohortError, match="one and two: 120 participants have different labels"):
        rank(entry("one", one), entry("two", predicted(one.logits[:, 1], label=1 - LABEL)))
    strangers = np.array([f"9{number:03d}" for number in range(120)])
    with pytest.raises(CohortError, match="share no participant of val"):
        rank(entry("one", one), entry("two", predicted(one.logits[:, 1], strangers)))


def test_nobody_is_called_worse_by_too_few_or_by_an_old_board() -> None:
    rows = np.flatnonzero(np.cumsum(LABEL == 1) * (LABEL == 1) <= 9)
    good, bad = predicted(3.0 * LABEL - 1.5), predicted(1.5 - 3.0 * LABEL)
    board = rank(entry("good", rows_of(good, rows)), entry("bad", rows_of(bad, rows)))
    assert standing(line(board, "bad"), board) == "too few to say"
    whole = rank(entry("good", good), entry("bad", bad))
    assert standing(line(whole, "bad"), whole) == "too few to say"  # all draws agree: no width
    noisy = rank(entry("good", good), entry("noise", predicted(np.random.default_rng(0).normal(size=120))))
    assert standing(line(noisy, "noise"), noisy) == "worse than the best"
    old = replace(noisy, differences_hold=None)
    assert standing(line(old, "noise"), old) == "too few to say"
    assert "0 of the other 1 models" in count_worse(old)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.2, -0.01, "worse than the best"),
        (-0.2, 0.0, "not shown to be worse"),
        (-0.1, 0.1, "not shown to be worse"),
        (0.0, 0.2, "not shown to be worse"),
        (0.01, 0.2, "better than the best model"),
    ],
)
def test_a_line_is_worse_better_or_neither_by_its_interval(low: float, high: float, said: str) -> None:
    good, other = correlated(1.0, 0.5)
    board = rank(entry("good", good), entry("other", other))
    (name,) = {"good", "other"} - {board.best}
    found = line(board, name)
    apart = Estimate((low + high) / 2, low, high, simultaneous={"low": low, "high": high})
    found.difference_to_best[board.ranked_by] = apart
    assert standing(found, board) == said
