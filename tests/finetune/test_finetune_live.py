"""What is shown within an epoch: early enough, rarely enough, and with numbers that are right."""

import io
import sys

import pytest
import torch

from embeddings_store.terminal import sparkline as drawing
from embeddings_store.terminal.sparkline import sparkline
from finetune.training.epochs import Epoch
from finetune.training.live import LiveEpoch, Pace, describe_epoch, mean_of


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_comes_after_a_few_seconds_and_then_now_and_then() -> None:
    clock, shown = Clock(), []
    asked: list[int] = []

    def mean_loss() -> float:
        asked.append(1)
        return 0.5

    live = LiveEpoch("last 1/5", 100, lambda line, step: shown.append((step, line)), clock=clock)
    for step in range(1, 31):
        clock.now += 1.0
        live.advance(step, 4, mean_loss)
    assert [step for step, _ in shown] == [3, 13, 23]
    assert len(asked) == 3  # the device is only waited for when something is shown
    assert shown[1][1] == ("last 1/5: step 13 of 100, train loss 0.5000, 4.00 volumes/s, 1 min 27 s left")


def test_the_mean_is_put_off_until_it_is_asked_for() -> None:
    assert mean_of(torch.tensor(6.0), 4)() == 1.5
    assert mean_of(torch.tensor(6.0), 0)() == 6.0


def watched(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(drawing, "is_watched", lambda: True)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))


def test_an_epoch_is_one_line_with_the_best_so_far_the_time_left_and_a_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    pace = Pace(clock)
    head = Epoch("head", 1, 1.2, 0.9, 0.4)
    first, second = Epoch("last", 1, 1.0, 0.5, 0.7), Epoch("last", 2, 0.75, 0.75, 0.5)
    clock.now += 70.0
    assert describe_epoch([head, first], head, 3, pace.left_s(2)) == (
        "last 1/3: train loss 1.0000; participants of val: balanced accuracy 0.500, log-loss 0.7000 (best so far "
        "0.900, head 1); at most 2 min 20 s left of stage last"
    )
    watched(monkeypatch, "utf-8")
    clock.now += 30.0
    assert describe_epoch([head, first, second], second, 3, pace.left_s(1)) == (
        "last 2/3: train loss 0.7500; participants of val: balanced accuracy 0.750, log-loss 0.5000 (best so far); at "
        "most 0 min 50 s left of stage last ▁█"
    )
    lacking = Epoch("last", 3, 0.75, None, 0.4)
    said = describe_epoch([lacking], second, 3, 0.0)
    assert "at most 1 min 0 s left" in describe_epoch([first], first, 3, 59.7)
    assert said.endswith("balanced accuracy absent, log-loss 0.4000 (best so far 0.750, last 2)")


def test_a_curve_is_drawn_where_it_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sparkline([0.0, 1.0]) == "", "a log gets none"
    watched(monkeypatch, "utf-8")
    assert sparkline([0.0, 0.5, None, float("nan"), 1.0]) == "▁▅  █"
    assert sparkline([0.5, 0.5]) == "▁▁"
    assert sparkline([0.5]) == ""
    assert len(sparkline([float(n) for n in range(100)])) == drawing.MOST_BARS
    watched(monkeypatch, "latin-1")
    assert sparkline([0.0, 1.0]) == ""
