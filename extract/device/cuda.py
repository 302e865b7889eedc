"""One NVIDIA GPU."""

from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from extract.device.backend import DTYPES, ModuleT, Precision
from extract.device.eager import Eager
from extract.errors import DeviceError


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

    @property
    def description(self) -> str:
        """Name the GPU."""
        return torch.cuda.get_device_name(self._device)

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give a copy on the GPU."""
        return deepcopy(module).to(self._device, self._dtype)

    def place(self, batch: Shaped[np.ndarray, "..."]) -> Shaped[Tensor, "..."]:
        """Copy through pinned memory, and round on the GPU."""
        writeable = batch if batch.flags.writeable else batch.copy()
        pinned = torch.from_numpy(writeable).pin_memory()
        placed = pinned.to(self._device, non_blocking=True)
        return placed.to(self._dtype) if placed.is_floating_point() else placed

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Copy back, which waits for the GPU."""
        return tensor.cpu().numpy()

    def free_memory_bytes(self) -> int:
        """Give what no process holds on the GPU now."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return free

    def forget_freed(self) -> None:
        """Empty torch's cache, whose blocks may be too small for what comes next."""
        torch.cuda.empty_cache()

    def peak_memory_bytes(self) -> int:
        """Give the peak of torch's own allocations on the GPU."""
        return torch.cuda.max_memory_allocated(self._device)
