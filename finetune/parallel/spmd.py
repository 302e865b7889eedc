"""Training on all chips of a TPU slice by torch_xla SPMD: one program, in which every batch is cut along its volumes.

Weights lie on every chip; XLA adds the exchange of gradients by itself. Each host reads whole batches and sends its own
chips their part, so all hosts must share --runs and --cache-dir. The arithmetic is tested on XLA's CPU device with
virtual chips (CPU_NUM_DEVICES); a program of several hosts has not been run.
"""

from collections.abc import Callable
from copy import copy
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from embeddings_store.errors import UsageError
from extract.device.backend import DTYPES, Backend, Batch, ModuleT, Precision
from extract.device.select import open_device, resolve
from extract.device.xla import XlaBackend
from extract.device.xla_attention import FLASH_BLOCK_TOKENS, attend_in_chunks
from extract.encoder.module import EncoderModule

VOLUMES = "volumes"
"""Name of the mesh's one axis."""


class SpmdBackend(XlaBackend):
    """All XLA devices of a slice as one. Raises DeviceError as XlaBackend does."""

    def __init__(self) -> None:
        if find_spec("torch_xla") is not None:  # else XlaBackend says what to do
            import_module("torch_xla.runtime").use_spmd()
        super().__init__("fp32")  # of the weights; autocast rounds the encoder's arithmetic
        self._spmd = import_module("torch_xla.distributed.spmd")
        self.chips: int = int(self._runtime.global_runtime_device_count())
        self.host = int(self._runtime.process_index())
        self._mesh = self._spmd.Mesh(np.arange(self.chips), (self.chips,), (VOLUMES,))

    def _take_chips(self) -> None:
        """Leave this process all of its machine's chips."""

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give a copy on the devices; on a TPU with flash attention in bf16, each chip on its own volumes."""
        prepared = super().prepare(module)
        if self._kind == "TPU" and isinstance(prepared, EncoderModule):
            prepared.use_attention(partial(flash_attention_by_chip, mesh=self._mesh, chips=self.chips))
        return prepared

    def place(self, batch: Batch) -> Shaped[Tensor, "..."]:
        """Send a batch, cut over the chips where its volumes can be dealt out evenly."""
        placed = super().place(batch)
        if self.chips > 1 and len(placed) % self.chips == 0:
            self._spmd.mark_sharding(placed, self._mesh, (VOLUMES, *(None,) * (placed.ndim - 1)))
        return placed

    def send(self, tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[np.ndarray, "..."]]:
        """Ask for a result, which must not be computed yet, whole on every chip.

        One that stays cut over the chips is gathered at each reading by a program that is compiled anew.
        """
        if self.chips > 1 and len(tensor) % self.chips == 0:
            self._spmd.mark_sharding(tensor, self._mesh, (None,) * tensor.ndim)
        return super().send(tensor)

    def in_precision(self, precision: Precision) -> "SpmdBackend":
        """Give the same devices, with weights and activations in another precision."""
        other = copy(self)
        other.precision, other._dtype = precision, DTYPES[precision]
        return other


def flash_attention_by_chip(query: Tensor, key: Tensor, value: Tensor, *, mesh: Any, chips: int) -> Tensor:
    """Attend with the Pallas kernel on each chip's share of the batch, else in chunks.

    The kernel rounds float32 to bfloat16, and fits whole blocks of tokens; a batch that does not divide by the chips,
    as one volume that is encoded alone, cannot be cut, and XLA cannot look into the kernel to do it otherwise.
    """
    if query.dtype != torch.bfloat16 or query.shape[2] % FLASH_BLOCK_TOKENS or len(query) % chips:
        return attend_in_chunks(query, key, value)
    kernel = import_module("torch_xla.experimental.custom_kernel").flash_attention
    spec = (VOLUMES, None, None, None)
    mixed: Tensor = kernel(query, key, value, sm_scale=query.shape[3] ** -0.5, partition_spec=spec, mesh=mesh)
    return mixed


def encoding_device(backend: Backend, precision: str) -> Backend:
    """Give the device of a training for encoding in a precision, as extraction would."""
    if precision == backend.precision:
        return backend
    if isinstance(backend, SpmdBackend):
        return backend.in_precision(next(known for known in DTYPES if known == precision))
    return open_device(backend.name, precision)


def open_trainer(name: str, *, forward_size: int) -> Backend:
    """Open the device to train on.

    Raises DeviceError, and UsageError where the chips cannot share a batch evenly.
    """
    if resolve(name) != "xla":
        return open_device(name)
    backend = SpmdBackend()
    if forward_size % backend.chips:
        raise UsageError(
            f"{forward_size} volumes a forward do not divide evenly over {backend.chips} chips; choose a multiple for "
            "batch_size and micro_batch_size"
        )
    return backend
