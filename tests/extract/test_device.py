"""The seam to the accelerator: one contract, kept by every back end that this machine has."""

import numpy as np
import pytest
import torch
from torch import nn

from embeddings_store.errors import UsageError
from extract.device.backend import Backend
from extract.device.cpu import CpuBackend
from extract.device.cuda import CudaBackend
from extract.device.select import open_device
from extract.errors import DeviceError

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


class BackendContract:
    """What extraction relies on; a back end's tests inherit it."""

    precision = "fp32"

    def open(self) -> Backend:
        raise NotImplementedError

    def test_says_what_it_is(self) -> None:
        backend = self.open()
        assert isinstance(backend, Backend)
        assert backend.precision == self.precision
        assert backend.name
        assert backend.description

    def test_place_and_back(self) -> None:
        backend, batch = self.open(), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        returned = backend.to_host(backend.place(batch).to(torch.float32))
        assert isinstance(returned, np.ndarray)
        np.testing.assert_array_equal(returned, batch)

    def test_takes_read_only_batches(self) -> None:
        batch = np.ones((1, 2), np.float32)
        batch.flags.writeable = False
        assert self.open().place(batch).shape == (1, 2)

    def test_prepare_leaves_the_module_as_it_was(self) -> None:
        module = nn.Linear(3, 3)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        prepared = self.open().prepare(module)
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert prepared.weight.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]

    def test_runs_what_it_prepared(self) -> None:
        backend, module = self.open(), nn.Linear(4, 2)
        batch = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(batch)).numpy()
            found = backend.to_host(backend.prepare(module)(backend.place(batch)).to(torch.float32))
        np.testing.assert_allclose(found, expected, atol=1e-5 if self.precision == "fp32" else 0.05)

    def test_counts_memory(self) -> None:
        backend = self.open()
        backend.place(np.ones((1, 1024), np.float32))
        assert backend.peak_memory_bytes() >= 4096


class TestCpu(BackendContract):
    def open(self) -> Backend:
        return CpuBackend("fp32")

    def test_the_peak_is_in_bytes(self) -> None:
        assert 50e6 < self.open().peak_memory_bytes() < 100e9


class TestCpuBf16(BackendContract):
    precision = "bf16"

    def open(self) -> Backend:
        return CpuBackend("bf16")


@needs_gpu
class TestCuda(BackendContract):
    def open(self) -> Backend:
        return CudaBackend("fp32")


@needs_gpu
class TestCudaBf16(BackendContract):
    precision = "bf16"

    def open(self) -> Backend:
        return CudaBackend("bf16")


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert open_device("auto", "fp32").name == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_asked_for_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match=r"expected a GPU, found none .* use --device cpu"):
        open_device("cuda", "bf16")


@pytest.mark.parametrize("name", ["xla", "tpu", "mps", ""])
def test_a_back_end_that_is_not_here(name: str) -> None:
    with pytest.raises(DeviceError, match="has the back ends cpu, cuda"):
        open_device(name, "fp32")


def test_an_unknown_precision() -> None:
    with pytest.raises(UsageError, match="expected fp32 or bf16"):
        open_device("cpu", "fp16")
