"""One NVIDIA GPU."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from extract.device.backend import DTYPES, Batch, ModuleT, Precision
from extract.device.cuda_attention import AMPERE, choose_attention, describe_attention, kernels_of
from extract.device.eager import Eager
from extract.device.host_ring import HostRing
from extract.encoder.module import EncoderModule
from extract.errors import DeviceError

NO_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What cuBLAS, cuDNN and the driver say, in a RuntimeError without a class of its own."""


class CudaBackend(Eager):
    """Eager torch on the current GPU. Raises DeviceError where this machine, or this torch, has none."""

    name = "cuda"
    page_locked = True

    def __init__(self, precision: Precision) -> None:
        if not torch.cuda.is_available():
            build = (
                f"torch {torch.__version__} has CUDA {torch.version.cuda}"
                if torch.version.cuda
                else "torch has no CUDA"
            )
            raise DeviceError(f"device cuda: expected a GPU, found none ({build}); use --device cpu")
        self.precision: Precision = precision
        self._dtype = DTYPES[precision]
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._capability = torch.cuda.get_device_capability(self._device)
        if not kernels_of(self._capability, self._dtype):
            have, need = (".".join(map(str, one)) for one in (self._capability, AMPERE))
            raise DeviceError(
                f"device cuda: {precision} needs compute capability {need}, this GPU has {have}; use --precision fp32"
            )
        self.prefers_bf16 = self._capability >= AMPERE
        self._coming, self._going = (torch.cuda.Stream(self._device) for _ in range(2))  # type: ignore[no-untyped-call]  # torch has no type for it
        self._ring = HostRing(lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True))

    @property
    def description(self) -> str:
        """Name the GPU, and the kernel that its attention asks first."""
        return f"{torch.cuda.get_device_name(self._device)}, {describe_attention(self._capability, self.precision)}"

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give a copy on the GPU, with the attention that suits it."""
        prepared = deepcopy(module).to(self._device, self._dtype)
        if isinstance(prepared, EncoderModule):
            prepared.use_attention(choose_attention(self._capability))
        return prepared

    def room(self, shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
        """Give page-locked memory."""
        return self._ring.take(shape)

    def place(self, batch: Batch) -> Shaped[Tensor, "..."]:
        """Copy on a stream of its own while the GPU computes, each volume from where it lies; round on the GPU.

        What does not lie in page-locked memory is copied there first.
        """
        arrays = [batch] if isinstance(batch, np.ndarray) else list(batch)
        whole = arrays[0] is batch
        parts = [torch.from_numpy(one if one.flags.writeable else one.copy()) for one in arrays]
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._coming):
            shape = parts[0].shape if whole else (len(parts), *parts[0].shape)
            there = torch.empty(shape, dtype=parts[0].dtype, device=self._device)
            for row, part in zip([there] if whole else there, parts, strict=True):
                row.copy_(part if part.is_pinned() else part.pin_memory(), non_blocking=True)
        computing.wait_stream(self._coming)
        there.record_stream(computing)  # or its memory would be given away before the forward has read it
        return there.to(self._dtype) if there.is_floating_point() else there

    def send(self, tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[np.ndarray, "..."]]:
        """Copy into page-locked memory, on a stream that waits for this result and for nothing after it."""
        self._going.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._going):
            host = tensor.to("cpu", non_blocking=True)
            tensor.record_stream(self._going)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # as above
            arrived.record()

        def wait() -> Shaped[np.ndarray, "..."]:
            arrived.synchronize()
            return host.numpy()

        return wait

    def memory_bytes(self) -> int:
        """Give the memory of the GPU."""
        return int(torch.cuda.get_device_properties(self._device).total_memory)

    def free_memory_bytes(self) -> int:
        """Give what no process holds on the GPU now."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return free

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell by torch's own class, or by the words of the libraries that allocate besides torch."""
        return super().is_out_of_memory(error) or any(words in str(error) for words in NO_MEMORY)

    def forget_freed(self) -> None:
        """Empty torch's cache, whose blocks may be too small for what comes next."""
        torch.cuda.empty_cache()

    def peak_memory_bytes(self) -> int:
        """Give the peak of torch's own allocations on the GPU."""
        return torch.cuda.max_memory_allocated(self._device)
