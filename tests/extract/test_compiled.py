"""--compile: where it is used, and what happens where it fails; torch.compile itself is a stand-in here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from embeddings_store.errors import UsageError
from extract.device.compiled import compiled_forward
from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.encoder.random_init import random_encoder
from extract.errors import DeviceError


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled; a device may say that it fails."""
    seen: list[str] = []

    def stand_in(module: Any) -> Callable[..., Any]:
        def forward(*inputs: Any) -> Any:
            seen.append("compiled")
            return module(*inputs)

        return forward

    monkeypatch.setattr(torch, "compile", stand_in)
    return seen


def device(name: str, precision: str, *, static: bool = False) -> CpuBackend:
    backend = CpuBackend(precision)
    backend.name, backend.static_shapes = name, static
    return backend


@pytest.mark.parametrize(
    ("name", "precision", "mode", "expected"),
    [
        ("cuda", "bf16", "auto", True),
        ("cuda", "fp32", "auto", False),
        ("cpu", "bf16", "auto", False),
        ("cpu", "fp32", "on", True),
        ("cuda", "fp32", "on", True),
        ("cuda", "bf16", "off", False),
        ("xla", "bf16", "auto", False),
    ],
)
def test_auto_compiles_on_a_gpu_in_bf16(
    compiles: list[str], name: str, precision: str, mode: Any, expected: bool
) -> None:
    encoder = random_encoder("random:tiny", (4, 32, 32))
    backend = device(name, precision, static=name == "xla")
    batches = BatchEncoder(encoder, backend, batch_size=2, compiled=mode)
    image = np.random.default_rng(0).normal(size=(2, 1, 4, 32, 32)).astype(np.float32)
    plain = BatchEncoder(encoder, backend, batch_size=2).encode(image).pooled
    assert compiles == []
    np.testing.assert_array_equal(batches.encode(image).pooled, plain)
    assert compiles == ["compiled"] * expected


def failing(error: Exception) -> Callable[..., Any]:
    def forward(*_: Any) -> Any:
        raise error

    return forward


def test_a_compiler_that_fails_is_named_once_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: failing(TorchDynamoException("no Triton here\nmore")))
    told: list[str] = []
    forward = compiled_forward(torch.nn.Identity(), device("cuda", "bf16"), "auto", told.append)
    assert [forward(3), forward(4)] == [3, 4]
    said = "--compile auto: torch.compile failed (TorchDynamoException: no Triton here); going on without it"
    assert told[1:] == [said]
    assert "compiled at its first batch" in told[0]
    with pytest.raises(UsageError, match="device xla compiles by itself"):
        compiled_forward(torch.nn.Identity(), device("xla", "bf16", static=True), "on", told.append)
    asked = compiled_forward(torch.nn.Identity(), device("cuda", "bf16"), "on", told.append)
    with pytest.raises(DeviceError, match=r"--compile on: torch.compile failed \(.*Triton here\); use --compile off"):
        asked(3)


def test_lack_of_memory_is_no_failure_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: failing(torch.OutOfMemoryError("20 GiB")))
    forward = compiled_forward(torch.nn.Identity(), device("cuda", "bf16"), "auto", lambda line: None)
    with pytest.raises(torch.OutOfMemoryError):
        forward(3)
