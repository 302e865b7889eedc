"""What extraction asks of an accelerator."""

from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Of weights and activations; pooling is float32 in both."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@runtime_checkable
class Backend(Protocol):
    """One device in one precision."""

    @property
    def name(self) -> str:
        """Give "cpu", "cuda" ...: what a row's record says."""

    @property
    def precision(self) -> Precision:
        """Give the precision of weights and activations."""

    @property
    def description(self) -> str:
        """Name the hardware, for a person."""

    @property
    def static_shapes(self) -> bool:
        """Say whether another batch size costs another compilation, so that short batches are padded."""

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give the module on the device in the precision; the module passed in is not changed."""

    def place(self, batch: Float32[np.ndarray, "..."]) -> Float[Tensor, "..."]:
        """Carry a batch to the device, in the precision."""

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Bring a float32 or float16 result back; waits until it is computed."""

    def peak_memory_bytes(self) -> int:
        """Give the largest amount of memory held so far: of the device, or of the process on the CPU."""
