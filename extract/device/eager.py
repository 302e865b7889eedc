"""What the back ends have in common that compute each operator as it is called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Eager:
    """Nothing is put off, nothing is compiled, and shapes are free."""

    static_shapes = False
    prefers_bf16 = False
    is_host = False
    chips = 1
    page_locked = False

    def launch(self) -> None:
        """Do nothing: the computation is on its way already."""

    @contextmanager
    def seeded(self, number: int) -> Iterator[None]:
        """Seed torch, and the current GPU where there is one."""
        gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(number)
            yield

    def computed_again(self, forward: Callable[[Tensor], Tensor], tokens: Shaped[Tensor, "..."]) -> Tensor:
        """Use torch's own checkpoint."""
        changed: Tensor = checkpoint(forward, tokens, use_reentrant=False)
        return changed

    def room(self, shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
        """Give ordinary memory."""
        return np.empty(tuple(shape), np.float32)

    def send(self, tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[np.ndarray, "..."]]:
        """Take the result when it is asked for: the host has computed it."""
        return lambda: self.to_host(tensor)

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Copy back, which waits for the device."""
        return tensor.cpu().numpy()

    def memory_bytes(self) -> int | None:
        """Give None: memory of the host is shared with everything else on it."""
        return None

    def free_memory_bytes(self) -> int | None:
        """Give None: memory of the host is shared with everything else on it."""
        return None

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell by torch's own class."""
        return isinstance(error, torch.OutOfMemoryError)

    def forget_freed(self) -> None:
        """Do nothing: the host's allocator gives memory back by itself."""

    def compilations(self) -> int:
        """Give 0."""
        return 0

    def fallbacks(self) -> Mapping[str, int]:
        """Give none: an operator that the device lacks is an error here."""
        return {}
