"""What extraction and fine-tuning ask of an accelerator.

A back end is one file with one class beside this one, and one line in ``extract.device.select``. What torch code
usually asks of a device, and where it is answered here:

==================  ====================================================================================================
device              held by the back end; ``name`` and ``description`` tell which
place               ``prepare`` for weights, ``place`` for batches made in ``room``, ``to_host`` or ``send`` for results
precision           ``prepare`` and ``place`` round to DTYPES: one type for weights and activations, no autocast
compile             ``static_shapes``: the caller pads, so that one shape is compiled once
step mark           ``launch``: a lazy back end computes there what was asked so far
attention           ``prepare`` chooses it (EncoderModule.use_attention)
compile count       ``compilations``, and ``fallbacks`` for what was computed on the host instead
memory              ``free_memory_bytes``; after a batch too large, ``is_out_of_memory`` and ``forget_freed``
seed                ``seeded``, for what training draws; random encoders are drawn by NumPy on the host
checkpoint          ``computed_again``: a part of a network whose activations are not kept
rank, world size    not here: one process a device, started by extract.engines; of a TPU's machines extract.device.tpu
==================  ====================================================================================================
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Of weights and activations; pooling is float32 in both."""

Batch = Shaped[np.ndarray, "..."] | Sequence[Shaped[np.ndarray, "..."]]
"""One array, or its first axis as arrays of one shape."""

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

    def room(self, shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
        """Give memory for an input, from where the device can fetch it; it may hold anything."""

    def place(self, batch: Batch) -> Shaped[Tensor, "..."]:
        """Carry a batch to the device: fractions in the precision, whole numbers as they are.

        What was made in ``room`` stays as it is until something computed of it has come back.
        """

    @property
    def is_host(self) -> bool:
        """Say whether it is the host itself, which has no cores left to prepare batches on."""

    @property
    def chips(self) -> int:
        """Count the devices over which a batch is cut."""

    @property
    def page_locked(self) -> bool:
        """Say whether batches of other makers travel faster from page-locked memory."""

    def launch(self) -> None:
        """Start computing everything asked so far, as one program; does not wait for it."""

    def seeded(self, number: int) -> AbstractContextManager[None]:
        """Draw what is random, as dropout is, from a seed below 2^63; the host's random state stays as it was."""

    def computed_again(self, forward: Callable[[Tensor], Tensor], tokens: Shaped[Tensor, "..."]) -> Tensor:
        """Call a part of a network, keep none of its activations, and compute them again in the backward pass."""

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Bring a float32 or float16 result back; waits until it is computed."""

    def send(self, tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[np.ndarray, "..."]]:
        """Start to bring a result back; calling what this gives waits for it alone, not for what was asked later."""

    def peak_memory_bytes(self) -> int:
        """Give the largest amount of memory held so far: of the device, or of the process on the CPU."""

    @property
    def prefers_bf16(self) -> bool:
        """Say whether the device computes in bfloat16 by itself, and faster than in float32."""

    def memory_bytes(self) -> int | None:
        """Give all memory of one device, whoever holds it; None where training may take what there is."""

    def free_memory_bytes(self) -> int | None:
        """Give what the device could still allocate; None where it does not tell."""

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell whether an error says that a batch was too large for the device."""

    def forget_freed(self) -> None:
        """Give memory back to the device that was freed, but kept for later."""

    def compilations(self) -> int:
        """Count the programs compiled since this back end was opened; 0 where nothing is compiled."""

    def fallbacks(self) -> Mapping[str, int]:
        """Count, by operator, what the device could not compute and the host did; empty is as it should be."""
