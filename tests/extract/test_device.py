"""The seam to the accelerator: one contract, kept by every back end that this machine has."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from backend_contract import BackendContract

from embeddings_store.errors import UsageError
from extract.device.backend import Backend
from extract.device.cpu import CpuBackend
from extract.device.cuda import CudaBackend
from extract.device.select import open_device
from extract.errors import DeviceError

without_torch_xla = pytest.mark.skipif(find_spec("torch_xla") is not None, reason="torch_xla is installed here")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


class TestCpu(BackendContract):
    def open(self) -> Backend:
        return CpuBackend("fp32")

    def test_the_peak_is_in_bytes(self) -> None:
        assert 50e6 < self.open().peak_memory_bytes() < 100e9


def test_a_host_without_memory_says_so_and_no_other_error_does() -> None:
    backend = CpuBackend("fp32")
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert backend.is_out_of_memory(refused.value)
    assert not backend.is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


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


@without_torch_xla
def test_xla_where_torch_xla_is_not_installed() -> None:
    with pytest.raises(DeviceError, match=r"got no module torch_xla; .*pip install 'octprobe\[tpu\]'"):
        open_device("xla")


@without_torch_xla
def test_a_torch_xla_of_another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install_broken_torch_xla(tmp_path))
    with pytest.raises(DeviceError, match=r"with torch 2\.9, got one .*\(undefined symbol: _ZN5torch\); "):
        open_device("xla")


@without_torch_xla
def test_auto_takes_the_tpu_that_the_surroundings_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    assert open_device("auto").name != "xla"
    monkeypatch.syspath_prepend(install_broken_torch_xla(tmp_path))
    with pytest.raises(DeviceError, match="device xla"):
        open_device("auto")
    monkeypatch.setenv("PJRT_DEVICE", "CPU")
    assert open_device("auto").name != "xla"


def install_broken_torch_xla(folder: Path) -> Path:
    """What a torch_xla built for another torch does when it is imported."""
    (folder / "torch_xla").mkdir()
    (folder / "torch_xla" / "__init__.py").write_text("raise ImportError('undefined symbol: _ZN5torch')")
    return folder


@pytest.mark.parametrize("name", ["tpu", "mps", ""])
def test_a_back_end_that_is_not_here(name: str) -> None:
    with pytest.raises(DeviceError, match="has the back ends cpu, cuda, xla"):
        open_device(name, "fp32")


def test_an_unknown_precision() -> None:
    with pytest.raises(UsageError, match="expected fp32 or bf16"):
        open_device("cpu", "fp16")
