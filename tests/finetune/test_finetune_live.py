"""What is shown within an epoch: early enough, rarely enough, and with numbers that are right."""

import torch

from finetune.training.live import LiveEpoch, mean_of


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
