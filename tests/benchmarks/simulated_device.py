"""A device of known speed: it computes nothing, and takes as long as it would, on a clock and a link of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.device.backend import Batch, Precision
from extract.device.eager import Eager
from extract.device.host_ring import HostRing
from extract.encoder.module import EncoderModule

LINK_BYTES_PER_S = 25e9
"""What page-locked copies reach over PCIe 4.0 x16."""


class SimulatedDevice(Eager):
    """Forwards of ``rate`` volumes/s, one after another; copies beside them. Tensors on it have a shape and no numbers.

    Host work is what it would be for a GPU: inputs are made in a ring, operators are called one by one, results wait.
    launch_s: CPU seconds that calling those of the encoder took.
    """

    name = "cuda"
    precision: Precision = "bf16"
    description = "simulated"

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._ring = HostRing(lambda size: torch.zeros(size, dtype=torch.uint8))
        self._results: dict[tuple[Any, ...], np.ndarray] = {}
        self._lock = Lock()
        self._asked = 0
        self.launch_s = 0.0
        self.start_again()

    def start_again(self) -> None:
        """Set the clock to where nothing was asked yet."""
        self._arrived = self._free = self.begun = self.launch_s = 0.0

    @property
    def ended(self) -> float:
        """When the last forward was done."""
        return self._free

    @property
    def pieces(self) -> int:
        """How many inputs the ring holds."""
        return self._ring.pieces

    def prepare(self, module: EncoderModule) -> Any:
        """Give what calls the operators of the module, each on a single token.

        Those of tensors without numbers are written in Python, and took more of the host than the whole of its work.
        """
        own = module.architecture
        one = type(module)(replace(own, image_size=own.patch, width=12 * own.heads, mlp_width=12 * own.heads))

        def forward(volumes: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
            begun = thread_time()
            one(torch.zeros(len(volumes), 1, *own.patch), layers)
            self.launch_s += thread_time() - begun
            tokens = torch.empty(len(volumes), own.token_count, own.width, dtype=torch.bfloat16, device="meta")
            return dict.fromkeys(layers, tokens)

        return forward

    def room(self, shape: Sequence[int]) -> np.ndarray:
        return self._ring.take(shape)

    def place(self, batch: Batch) -> Tensor:
        shape = (len(batch), *batch[0].shape)
        with self._lock:
            self._arrived = max(perf_counter(), self._arrived) + 4 * int(np.prod(shape)) / LINK_BYTES_PER_S
            self._asked = len(batch)
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    def launch(self) -> None:
        """Take the time of the forward that was asked last."""
        with self._lock:
            start = max(perf_counter(), self._arrived, self._free)
            self.begun = self.begun or start
            self._free = start + self._asked / self._rate

    def send(self, tensor: Tensor) -> Callable[[], np.ndarray]:
        ready = self._free + tensor.numel() * tensor.element_size() / LINK_BYTES_PER_S
        key = (*tensor.shape, tensor.dtype)
        if key not in self._results:
            self._results[key] = torch.zeros(tensor.shape, dtype=tensor.dtype).numpy()

        def wait() -> np.ndarray:
            sleep(max(0.0, ready - perf_counter()))
            return self._results[key]

        return wait

    def peak_memory_bytes(self) -> int:
        return 0
