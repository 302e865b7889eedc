"""The memory of a TPU chip: what its runtime says, or what its kind has."""

from types import SimpleNamespace
from typing import Any

import pytest

from extract.device.tpu import chip_memory_bytes
from extract.device.xla import XlaBackend


def refuse(_: Any) -> Any:
    raise RuntimeError("GetMemoryInfo: SPMD:0 is no device of its own")


@pytest.mark.parametrize(
    ("kind", "tells", "accelerator", "expected"),
    [
        ("TPU", lambda _: {"bytes_used": 1, "bytes_limit": 16_909_336_576}, "v5litepod-8", 16_909_336_576),
        ("TPU", lambda _: {"bytes_used": 1}, "v5litepod-8", 16_000_000_000),
        ("TPU", refuse, "v4-32", 32_000_000_000),
        ("TPU", refuse, "", None),
        ("CPU", refuse, "v4-32", None),
    ],
)
def test_what_a_device_has(
    monkeypatch: pytest.MonkeyPatch, kind: str, tells: Any, accelerator: str, expected: int | None
) -> None:
    monkeypatch.setattr("extract.device.xla.accelerator_type", lambda: accelerator)
    backend = object.__new__(XlaBackend)  # opening it needs torch_xla
    vars(backend).update(_kind=kind, _device="xla:0", _xla_model=SimpleNamespace(get_memory_info=tells))
    assert backend.memory_bytes() == expected


def test_kinds_by_the_names_that_google_gives() -> None:
    names = ("v2-8", "v3-32", "v4-8", "v5litepod-16", "v5p-8", "v6e-4", "v99-1", "")
    found = [chip_memory_bytes(name) for name in names]
    assert found == [8e9, 16e9, 32e9, 16e9, 95e9, 32e9, None, None]
