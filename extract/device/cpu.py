"""The CPU: the reference that every other back end is compared with."""

import platform
import resource
import sys
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from extract.device.backend import DTYPES, Batch, ModuleT, Precision
from extract.device.eager import Eager

ALLOCATOR = "DefaultCPUAllocator"


class CpuBackend(Eager):
    """Eager torch on the CPU; the number of threads is the caller's affair (torch.set_num_threads)."""

    name = "cpu"
    is_host = True

    def __init__(self, precision: Precision) -> None:
        self.precision: Precision = precision
        self._dtype = DTYPES[precision]

    @property
    def description(self) -> str:
        """Name the processor's kind and torch's threads."""
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give the module itself in fp32, and a rounded copy in bf16."""
        if self._dtype == torch.float32:
            return module
        return deepcopy(module).to(self._dtype)

    def place(self, batch: Batch) -> Shaped[Tensor, "..."]:
        """Wrap an array, or several that are one, without a copy where it may be written to (torch asks for that)."""
        if not isinstance(batch, np.ndarray):
            batch = batch[0][None] if len(batch) == 1 else np.stack(batch)
        writeable = batch if batch.flags.writeable else batch.copy()
        placed = torch.from_numpy(writeable)
        return placed.to(self._dtype) if placed.is_floating_point() else placed

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Give the numbers as they lie."""
        return tensor.numpy()

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell by the name of torch's allocator, too: its error has no class of its own on the CPU."""
        return super().is_out_of_memory(error) or ALLOCATOR in str(error)

    def peak_memory_bytes(self) -> int:
        """Give the peak resident set of this process."""
        return process_peak_bytes()


def process_peak_bytes() -> int:
    """Give the peak resident set of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
