"""One NVIDIA GPU."""

from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from extract.device.backend import DTYPES, ModuleT, Precision
from extract.device.cuda_attention import AMPERE, choose_attention, describe_attention, kernels_of
from extract.device.eager import Eager
from extract.encoder.module import EncoderModule
from extract.errors import DeviceError

NO_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What cuBLAS, cuDNN and the driver say, in a RuntimeError without a class of its own."""


class CudaBackend(Eager):
    """Eager torch on the current GPU. Raises DeviceError where this machine, or this torch, has none."""

    name = "cuda"

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

    def place(self, batch: Float32[np.ndarray, "..."]) -> Float[Tensor, "..."]:
        """Copy through pinned memory, and round on the GPU."""
        writeable = batch if batch.flags.writeable else batch.copy()
        pinned = torch.from_numpy(writeable).pin_memory()
        return pinned.to(self._device, non_blocking=True).to(self._dtype)

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Copy back, which waits for the GPU."""
        return tensor.cpu().numpy()

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
