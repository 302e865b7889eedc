"""Effective rank and the distance to a random twin, against definitions and on encoders made for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.device.cpu import CpuBackend
from extract.doctor.geometry import (
    LIKE_RANDOM,
    TWIN_SEEDS,
    content_of,
    effective_rank,
    examine_geometry,
    linear_cka,
)
from extract.doctor.report import Report, Status
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder, random_twin
from extract.errors import DeviceError

RNG = np.random.default_rng


def rank_by_definition(rows: np.ndarray) -> float:
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = values[values > 1e-12 * values[0]] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("shape", [(50, 8), (6, 40), (5000, 12)])
def test_effective_rank_is_roy_and_vetterlis(shape: tuple[int, int]) -> None:
    rows = RNG(0).normal(size=shape) * np.geomspace(1, 20, shape[1]) + 3
    assert effective_rank(rows) == pytest.approx(rank_by_definition(rows), rel=1e-6)


def test_effective_rank_counts_equal_directions() -> None:
    rows = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(rows) == pytest.approx(5)
    assert effective_rank(np.outer(np.arange(9.0), np.ones(4))) == pytest.approx(1, abs=1e-5)


def test_equal_rows_have_no_rank() -> None:
    assert effective_rank(np.full((6, 3), 0.1, np.float32)) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100), st.integers(3, 20))
def test_neither_scale_nor_rotation_nor_shift_matters(seed: int, scale: float, width: int) -> None:
    rows = RNG(seed).normal(size=(12, width)) * np.geomspace(1, 9, width)
    rotation = np.linalg.qr(RNG(seed + 1).normal(size=(width, width)))[0]
    turned = scale * rows @ rotation + 1
    assert effective_rank(turned) == pytest.approx(effective_rank(rows), rel=1e-5)
    centred, other = rows - rows.mean(0), turned - turned.mean(0)
    assert linear_cka(centred, other) == pytest.approx(1)
    assert 1 <= effective_rank(rows) <= min(11, width) + 1e-9


def test_cka_of_unrelated_and_of_no_rows() -> None:
    ours, theirs = RNG(0).normal(size=(2, 4000, 5))
    unrelated = linear_cka(ours - ours.mean(0), theirs - theirs.mean(0))
    assert unrelated is not None
    assert unrelated < 0.01
    assert linear_cka(np.zeros((4, 2)), np.ones((4, 2))) is None


def test_what_every_volume_says_at_a_position_is_no_content() -> None:
    position = RNG(0).normal(size=(1, 7, 3))
    assert np.allclose(content_of(np.repeat(position, 4, axis=0)), 0)


def volumes(count: int) -> list[np.ndarray]:
    """Smooth blobs, so that neighbouring patches have something in common."""
    ramp = np.linspace(0, 3, 96, dtype=np.float32)
    plane = np.sin(ramp[:, None] + 2 * ramp[None])
    made = [plane * np.float32(1 + n) + RNG(n).normal(size=(1, 32, 96, 96)).astype(np.float32) for n in range(count)]
    return [((one - one.mean()) / one.std()).astype(np.float32) for one in made]


def examined(encoder: Encoder, images: list[np.ndarray]) -> Report:
    backend = CpuBackend("fp32")
    runner = BatchEncoder(encoder, backend)
    report, _ = examine_geometry(encoder, backend, images, [runner.tokens(image[None])[0] for image in images])
    return report


def statuses(report: Report) -> dict[str, Status]:
    return {check.name: check.status for check in report.checks}


def test_a_random_encoder_is_like_its_twins() -> None:
    report = examined(random_encoder("random:tiny"), volumes(4))
    assert statuses(report) == {"effective rank": Status.OK, "random twin": Status.WARN}
    assert abs(report.figures["twin_cka"] - report.figures["twin_cka_random"]) < LIKE_RANDOM
    assert 1 < report.figures["effective_rank"] <= 3


def test_an_encoder_with_other_weights_is_not() -> None:
    encoder = random_twin(random_encoder("random:tiny").architecture, 9, "strong")
    for name, parameter in encoder.module.named_parameters():
        if parameter.ndim >= 2 and name != "pos_embed":
            parameter.mul_(8)
    assert statuses(examined(encoder, volumes(4)))["random twin"] == Status.OK


def test_an_encoder_that_sees_nothing_has_collapsed() -> None:
    encoder = random_twin(random_encoder("random:tiny").architecture, 9, "blind")
    for name, parameter in encoder.module.named_parameters():
        if name.startswith("patch_embed"):
            parameter.zero_()
    report = examined(encoder, volumes(3))
    assert statuses(report) == {"effective rank": Status.WARN, "random twin": Status.WARN}
    assert "collapsed" in report.checks[0].message


def test_the_twins_are_never_the_encoder_itself() -> None:
    encoder = random_encoder("random:tiny")
    twins = {random_twin(encoder.architecture, seed, "twin").weights_sha256 for seed in TWIN_SEEDS}
    assert len(twins | {encoder.weights_sha256}) == 3


@pytest.mark.parametrize(
    ("count", "absent"), [(1, {"effective_rank", "effective_rank_tokens", "twin_cka"}), (2, {"effective_rank"})]
)
def test_too_few_volumes_give_no_figure(count: int, absent: set[str]) -> None:
    report = examined(random_encoder("random:tiny"), volumes(count))
    assert {*report.absent} == absent
    assert not absent & {*report.figures}


def test_numbers_that_are_not_finite_are_refused() -> None:
    images = volumes(2)
    tokens = [np.full((288, 192), np.nan, np.float32)] * 2
    with pytest.raises(DeviceError, match="expected finite tokens"):
        examine_geometry(random_encoder("random:tiny"), CpuBackend("fp32"), images, tokens)
