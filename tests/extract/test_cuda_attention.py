"""Which attention kernel a GPU gets, by its generation and the numbers; never the one that holds all scores."""

import pytest
import torch
from torch.nn.attention import SDPBackend

from extract.device import cuda_attention
from extract.device.cuda import CudaBackend
from extract.device.cuda_attention import KERNELS, choose_attention, describe_attention, kernels_of
from extract.encoder.attention import fused_attention
from extract.errors import DeviceError

HOPPER, BLACKWELL, AMPERE, TURING = (9, 0), (10, 0), (8, 6), (7, 5)


@pytest.mark.parametrize(
    ("capability", "dtype", "order"),
    [
        (HOPPER, torch.bfloat16, ("cuDNN", "flash", "efficient")),
        (BLACKWELL, torch.bfloat16, ("cuDNN", "flash", "efficient")),
        (AMPERE, torch.bfloat16, ("flash", "efficient", "cuDNN")),
        (TURING, torch.bfloat16, ()),
        (HOPPER, torch.float32, ("efficient",)),
        (TURING, torch.float32, ("efficient",)),
    ],
)
def test_the_fastest_kernel_of_each_generation_comes_first(
    capability: tuple[int, int], dtype: torch.dtype, order: tuple[str, ...]
) -> None:
    assert kernels_of(capability, dtype) == order
    assert SDPBackend.MATH not in {KERNELS[name] for name in order}


def test_the_numbers_decide_at_each_call_as_they_do_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine's CPU, whose one kernel stands for the GPU's."""
    asked: list[list[SDPBackend]] = []
    real = cuda_attention.sdpa_kernel

    def watch(order: list[SDPBackend], *, set_priority: bool) -> object:
        asked.append(order)
        assert set_priority
        return real(SDPBackend.FLASH_ATTENTION)

    monkeypatch.setattr(cuda_attention, "sdpa_kernel", watch)
    attend = choose_attention(HOPPER)
    for dtype in (torch.float32, torch.bfloat16):
        query, key, value = torch.randn(3, 1, 2, 16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        torch.testing.assert_close(attend(query, key, value), fused_attention(query, key, value))
    cudnn, flash, efficient = (KERNELS[name] for name in ("cuDNN", "flash", "efficient"))
    assert asked == [[efficient], [cudnn, flash, efficient]]


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """One fake GPU, of the generation that the list names."""
    have = [HOPPER]
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "Stream": lambda _: None,
        "get_device_name": lambda _: "H200",
        "get_device_capability": lambda _: have[0],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return have


def test_the_kernel_is_named_and_a_gpu_without_one_is_refused(capability: list[tuple[int, int]]) -> None:
    assert CudaBackend("bf16").description == "H200, cuDNN attention"
    assert CudaBackend("fp32").description == "H200, efficient attention"
    assert describe_attention(AMPERE, "bf16") == "flash attention"
    capability[0] = TURING
    assert CudaBackend("fp32").name == "cuda"
    with pytest.raises(DeviceError, match=r"bf16 needs compute capability 8\.0, this GPU has 7\.5; use .* fp32"):
        CudaBackend("bf16")


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_a_lack_of_memory_is_known_whoever_says_it(
    capability: list[tuple[int, int]], error: RuntimeError, lack: bool
) -> None:
    assert CudaBackend("bf16").is_out_of_memory(error) is lack
