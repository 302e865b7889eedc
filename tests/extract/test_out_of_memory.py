"""A batch that does not fit the device: halved where shapes are free, else refused with a size to ask for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_bucket import errors, fill_bucket, options, rows

from extract.device.cpu import CpuBackend
from extract.device.eager import Eager
from extract.device.fitting import LARGEST_BATCH_SIZE, forward_bytes, starting_batch_size
from extract.encode import BatchEncoder
from extract.encoder.random_init import ARCHITECTURES, random_encoder
from extract.errors import DeviceError
from extract.pipeline import extract

VOLUMES = np.random.default_rng(3).normal(size=(8, 1, 8, 32, 32)).astype(np.float32)


class SmallGpu(CpuBackend):
    """A GPU whose memory holds so many volumes, and that says so as torch does."""

    name = "cuda"
    error: type[RuntimeError] = torch.OutOfMemoryError
    message = "CUDA out of memory. Tried to allocate 2.00 GiB."

    def __init__(self, fits: int, free_bytes: int = 10**12) -> None:
        super().__init__("fp32")
        self.fits, self.free_bytes = fits, free_bytes
        self.seen: list[int] = []
        self.emptied = 0

    def place(self, batch: np.ndarray) -> torch.Tensor:
        self.seen.append(len(batch))
        if len(batch) > self.fits:
            raise self.error(self.message)
        return super().place(batch)

    def free_memory_bytes(self) -> int:
        return self.free_bytes

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        return Eager.is_out_of_memory(self, error)

    def forget_freed(self) -> None:
        self.emptied += 1


class SmallTpu(SmallGpu):
    name = "xla"
    error = RuntimeError
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm."
    static_shapes = True

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        return "RESOURCE_EXHAUSTED" in str(error)


def new_encoder(backend: CpuBackend, batch_size: int) -> BatchEncoder:
    return BatchEncoder(random_encoder("random:tiny", (8, 32, 32)), backend, batch_size=batch_size)


def test_a_batch_is_halved_until_it_fits_and_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    backend = SmallGpu(fits=3)
    encoder = new_encoder(backend, batch_size=8)
    parts = list(encoder.submit_fitting(VOLUMES))
    assert [part.count for part in parts] == [2, 2, 2, 2]
    assert backend.seen == [8, 4, 2, 2, 2, 2]
    assert (encoder.batch_size, backend.emptied) == (2, 2)
    said = capsys.readouterr().err
    assert "device cuda: a batch of 8 volumes does not fit its memory; going on with 4" in said
    assert "going on with 2" in said
    expected = new_encoder(CpuBackend("fp32"), batch_size=2)
    for start, part in zip(range(0, 8, 2), parts, strict=True):
        alone = expected.encode(VOLUMES[start : start + 2])
        np.testing.assert_array_equal(encoder.collect(part).pooled, alone.pooled)
    assert [part.count for part in encoder.submit_fitting(VOLUMES[:3])] == [2, 1]


def test_one_volume_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(DeviceError, match="not even one volume fits its memory"):
        list(new_encoder(SmallGpu(fits=0), batch_size=4).submit_fitting(VOLUMES[:4]))


@pytest.mark.parametrize("count", [8, 5])
def test_a_device_that_compiles_names_the_size_to_ask_for(count: int) -> None:
    """Shapes are compiled in: a short batch is padded to the size that does not fit."""
    encoder = new_encoder(SmallTpu(fits=2), batch_size=8)
    with pytest.raises(
        DeviceError, match="a batch of 8 volumes does not fit its memory; run again with --batch-size 4"
    ):
        list(encoder.submit_fitting(VOLUMES[:count]))


def test_a_device_that_computes_late_may_say_so_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SmallTpu(fits=8)
    encoder = new_encoder(backend, batch_size=8)
    submitted = encoder.submit(VOLUMES)

    def fail(_: Any) -> np.ndarray:
        raise RuntimeError(SmallTpu.message)

    monkeypatch.setattr(backend, "to_host", fail)
    with pytest.raises(DeviceError, match="--batch-size 4"):
        encoder.collect(submitted)


def test_another_error_of_an_accelerator_is_the_devices() -> None:
    backend = SmallGpu(fits=0)
    backend.error, backend.message = RuntimeError, "CUDA error: device-side assert triggered\nsecond line"
    with pytest.raises(DeviceError, match="RuntimeError: CUDA error: device-side assert triggered; rows") as raised:
        list(new_encoder(backend, batch_size=2).submit_fitting(VOLUMES[:2]))
    assert "second line" not in str(raised.value)


@pytest.mark.parametrize("batch_size", ["auto", "5"])
def test_a_whole_run_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: str) -> None:
    bucket, backend = fill_bucket(tmp_path / "bucket", 9), SmallGpu(fits=3)
    monkeypatch.setattr("extract.engines.select.open_device", lambda *_: backend)
    summary = extract(options(bucket, tmp_path / "store", batch_size=batch_size))
    assert (summary["committed"], summary["errors"], errors(tmp_path / "store")) == (9, {}, {})
    assert summary["batch_sizes"][0] <= 3 < max(backend.seen)
    monkeypatch.undo()
    extract(options(bucket, tmp_path / "cpu"))
    expected = rows(tmp_path / "cpu")
    for key, numbers in rows(tmp_path / "store").items():
        np.testing.assert_allclose(numbers, expected[key], rtol=2e-3, atol=2e-3)


def test_the_first_size_follows_the_free_memory() -> None:
    base = ARCHITECTURES["base"]
    one = forward_bytes(base, "fp32", 1)
    assert 0.3e9 < one < 1.2e9  # what a full-size forward takes on a CPU is 0.7 to 1 GB, weights included
    sizes = {free: starting_batch_size(SmallGpu(1, free), base, 1) for free in (one // 2, 5 * one, 141 * 10**9)}
    assert list(sizes.values()) == [1, 4, LARGEST_BATCH_SIZE]
    assert forward_bytes(base, "bf16", 1) == one // 2
    assert forward_bytes(base, "fp32", 3) > one
    assert forward_bytes(replace(base, image_size=(32, 384, 384)), "fp32", 1) == one // 2
    assert starting_batch_size(CpuBackend("fp32"), base, 1) == 1
