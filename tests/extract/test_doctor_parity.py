"""Parity with CPU float32: a device that computes something else, or elsewhere, is found out."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from jaxtyping import Shaped
from torch import Tensor

from extract.device.backend import Backend
from extract.device.cpu import CpuBackend
from extract.doctor.options import DoctorOptions
from extract.doctor.parity import cosines, deviation, examine_device, examine_parity, pinned_input, require_used
from extract.doctor.report import Status
from extract.doctor.run import examine
from extract.encoder.random_init import random_encoder
from extract.errors import DeviceError


class StandIn(CpuBackend):
    """An accelerator that adds ``error`` to every result, and compiles ``programs`` in all."""

    name = "stand-in"
    static_shapes = True

    def __init__(self, precision: str, error: float, programs: int, fallback: str = "") -> None:
        super().__init__("fp32" if precision == "fp32" else "bf16")
        self._error, self._programs, self._fallback = error, programs, fallback

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        return super().to_host(tensor) + np.float32(self._error)

    def compilations(self) -> int:
        return self._programs

    def fallbacks(self) -> Mapping[str, int]:
        return {self._fallback: 1} if self._fallback else {}


def statuses(backend: Backend) -> dict[str, Status]:
    report, _ = examine_parity(None, backend)
    return {check.name: check.status for check in report.checks}


def test_the_pinned_input_is_pinned() -> None:
    image = pinned_input((2, 2, 2))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, pinned_input((2, 2, 2)))
    np.testing.assert_allclose(image.ravel()[:2], [-1.8666823, -1.3987467], rtol=1e-6)


def test_cpu_float32_is_the_reference() -> None:
    report, _ = examine_parity(None, CpuBackend("fp32"))
    assert report.status == Status.OK
    assert report.figures["parity_max_abs_tokens"] <= 2e-5
    assert "without compiling" in report.absent["compilations"]


def test_bf16_is_near_but_not_equal() -> None:
    found = deviation(random_encoder("random:tiny"), CpuBackend("bf16"), pinned_input((32, 96, 96)))
    assert 0.999 <= found.min_cosine_pooled < 1
    assert found.max_abs_tokens > 2e-5


@pytest.mark.parametrize(("error", "expected"), [(1e-5, Status.OK), (3e-5, Status.FAIL), (np.nan, Status.FAIL)])
def test_float32_may_deviate_by_2e_5(error: float, expected: Status) -> None:
    assert statuses(StandIn("fp32", error, programs=2))["parity"] == expected


@pytest.mark.parametrize(("error", "expected"), [(0, Status.OK), (1, Status.FAIL), (np.nan, Status.FAIL)])
def test_bf16_is_judged_by_cosine(error: float, expected: Status) -> None:
    assert statuses(StandIn("bf16", error, programs=2))["parity"] == expected


@pytest.mark.parametrize(
    ("programs", "fallback", "expected"), [(2, "", Status.OK), (3, "", Status.WARN), (2, "aten::nonzero", Status.WARN)]
)
def test_compiling_again_and_computing_on_the_host_are_told(programs: int, fallback: str, expected: Status) -> None:
    backend = StandIn("fp32", 0, programs, fallback)
    report, _ = examine_parity(None, backend)
    (check,) = (check for check in report.checks if check.name == "compilation")
    assert check.status == expected
    assert fallback in check.message
    assert report.figures["compilations"] == programs


def test_an_accelerator_that_is_not_used_is_a_failure() -> None:
    with pytest.raises(DeviceError, match="expected tensors on the accelerator, got them on the CPU"):
        require_used(StandIn("fp32", 0, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_accelerator_that_is_not_there_fails_and_nothing_takes_its_place() -> None:
    report = examine(DoctorOptions(encoder="random:tiny", device="cuda"), lambda _: None)
    assert report.named(Status.FAIL) == ["device"]
    assert report.failed
    assert "parity" not in {check.name for check in report.checks}
    assert "device" not in report.figures


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_computes_the_same(precision: str) -> None:
    report = examine(DoctorOptions(encoder="random:tiny", device="cuda", precision=precision), lambda _: None)
    assert report.named(Status.FAIL) == []
    assert report.figures["device"] == "cuda"


def test_auto_says_that_it_found_no_accelerator() -> None:
    report, backend = examine_device("auto", "fp32")
    assert ("auto found no accelerator" in report.checks[0].message) == (backend.name == "cpu")


def test_cosine_of_a_zero_vector_is_not_a_number() -> None:
    ones = np.ones((2, 3))
    found = cosines(np.stack([np.zeros(3), -np.ones(3)]), ones)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(-1)
