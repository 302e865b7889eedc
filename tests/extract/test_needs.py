"""How many cores and which line one device needs: arithmetic on what was timed, or on a stated speed."""

import pytest

from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from extract.needs import STATED_FLOP_PER_S, needs_of

SECONDS = {"fetch": 2.0, "decode": 0.3, "preprocess": 0.15, "encode": 0.05}
MB = 1e6


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_encoder("random:tiny", (8, 32, 32))


def test_a_device_that_was_timed_says_how_fast_it_is(encoder: Encoder) -> None:
    needs = needs_of(encoder, 60 * MB, SECONDS, "cuda")
    assert needs is not None
    assert (needs.volumes_per_second, needs.cores, needs.line_mb_per_second) == (20, 9, 1200)
    assert needs.describe() == (
        "one device at 20.00 volumes/s (measured on cuda, one volume at a time: batches are faster) needs 9 cores and "
        "a line of 1,200 MB/s (9,600 Mbit/s)"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_else_the_speed_is_stated(encoder: Encoder, device: str) -> None:
    """A CPU's own time says nothing of an accelerator; nor does one that was not timed."""
    seconds = SECONDS if device == "cpu" else SECONDS | {"encode": 0.0}
    needs = needs_of(encoder, 10.0, seconds, device)
    assert needs is not None
    rate = STATED_FLOP_PER_S / encoder.architecture.flop_per_volume
    assert needs.volumes_per_second == pytest.approx(rate, rel=5e-3)
    assert needs.by == "stated, not measured: 100 TFLOP/s"
    assert needs.cores == pytest.approx(rate * 0.45, rel=5e-3)


def test_what_was_not_timed_is_absent(encoder: Encoder) -> None:
    needs = needs_of(encoder, MB)
    assert needs is not None
    assert needs.cores is None
    assert "cores: not known, the doctor times volumes" in needs.describe()
    views = needs_of(encoder, MB, forwards=4)
    assert views is not None
    assert views.line_mb_per_second == pytest.approx(needs.line_mb_per_second / 4, rel=1e-2)
    slow = needs_of(encoder, MB, {"decode": 1e-9, "preprocess": 0.0, "encode": 10.0}, "xla")
    assert slow is not None
    assert slow.cores == 1
