"""The order of what is asked of a GPU, on a CPU that plays one: copies aside, and each result awaited alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from extract.device.cuda import CudaBackend
from extract.device.host_ring import HostRing


class Stream:
    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.asked = name, asked

    def wait_stream(self, other: "Stream") -> None:
        self.asked.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    current = [Stream("computing", seen)]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    class Event:
        def record(self) -> None:
            self.on = current[-1].name
            seen.append(f"event on {self.on}")

        def synchronize(self) -> None:
            seen.append(f"host waits for event on {self.on}")

    copy, to = torch.Tensor.copy_, torch.Tensor.to

    def copying(self: torch.Tensor, source: torch.Tensor, **more: Any) -> torch.Tensor:
        seen.append(f"copy on {current[-1].name}{', not waiting' if more.get('non_blocking') else ''}")
        return copy(self, source)

    def moving(self: torch.Tensor, *places: Any, **more: Any) -> torch.Tensor:
        if places[0] == "cpu":
            seen.append(f"return on {current[-1].name}{', not waiting' if more.get('non_blocking') else ''}")
        return to(self, *places)

    def pinning(self: torch.Tensor) -> torch.Tensor:
        seen.append("pin")
        return self

    monkeypatch.setattr("torch.cuda.stream", stream)
    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("torch.cuda.current_stream", lambda _: current[-1])
    monkeypatch.setattr("torch.Tensor.copy_", copying)
    monkeypatch.setattr("torch.Tensor.to", moving)
    monkeypatch.setattr("torch.Tensor.pin_memory", pinning)
    monkeypatch.setattr("torch.Tensor.record_stream", lambda self, on: seen.append(f"kept for {on.name}"))
    return seen


@pytest.fixture
def backend(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    ring = HostRing(lambda size: torch.zeros(size, dtype=torch.uint8))
    made: set[int] = set()

    def take(shape: tuple[int, ...]) -> np.ndarray:
        room = ring.take(shape)
        made.add(room.ctypes.data)
        return room

    monkeypatch.setattr("torch.Tensor.is_pinned", lambda self: self.data_ptr() in made)
    fake = object.__new__(CudaBackend)
    streams = {f"_{name}": Stream(name, asked) for name in ("coming", "going")}
    ring_like = type("Ring", (), {"take": staticmethod(take)})()
    fake.__dict__ |= streams | {"_dtype": torch.bfloat16, "_device": torch.device("cpu"), "_ring": ring_like}
    return fake


def test_volumes_are_copied_one_by_one_from_where_they_lie(backend: CudaBackend, asked: list[str]) -> None:
    volumes = [backend.room((1, 2, 3)) for _ in range(2)]
    for number, volume in enumerate(volumes):
        volume[:] = number + 1
    placed = backend.place(volumes)
    assert placed.dtype == torch.bfloat16
    assert placed[:, 0, 0, 0].tolist() == [1, 2]
    assert asked == [
        *["copy on coming, not waiting"] * 2, "computing waits for coming", "kept for computing",
    ]  # fmt: skip


def test_what_lies_elsewhere_is_pinned_first_and_whole_numbers_stay(backend: CudaBackend, asked: list[str]) -> None:
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    levels.flags.writeable = False
    placed = backend.place(levels)
    assert placed.dtype == torch.uint8
    assert placed.tolist() == levels.tolist()
    assert asked[:2] == ["pin", "copy on coming, not waiting"]


def test_a_result_is_awaited_alone(backend: CudaBackend, asked: list[str]) -> None:
    wait = backend.send(torch.ones(2))
    assert asked == ["going waits for computing", "return on going, not waiting", "kept for going", "event on going"]
    asked.clear()
    backend.send(torch.zeros(2))
    asked.clear()
    np.testing.assert_array_equal(wait(), np.ones(2))
    assert asked == ["host waits for event on going"]
