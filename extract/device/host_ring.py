"""Memory of the host that inputs are made in, used again and again: what a device copies from by itself."""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from math import prod
from weakref import finalize

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

FLOAT_BYTES = 4


class HostRing:
    """As many pieces as are ever in use at once; a piece is free again when no array lies in it any more. Thread-safe.

    allocate: gives so many bytes; page-locked ones for a GPU, whose allocation takes longer than filling them.
    """

    def __init__(self, allocate: Callable[[int], UInt8[Tensor, " bytes"]]) -> None:
        self._allocate = allocate
        self._free: defaultdict[int, deque[Tensor]] = defaultdict(deque)  # a deque needs no lock
        self.pieces = 0

    def take(self, shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
        """Lend room for an array; it comes back by itself."""
        free = self._free[FLOAT_BYTES * prod(shape)]
        try:
            piece = free.pop()
        except IndexError:
            piece = self._allocate(FLOAT_BYTES * prod(shape))
            self.pieces += 1
        lent = _Lent(piece.view(torch.float32).view(tuple(shape)))
        finalize(lent, free.append, piece).atexit = False
        return np.asarray(lent)


class _Lent:
    """What an array, its views and tensors made of it hold on to; of a tensor NumPy would hold on to another one."""

    def __init__(self, piece: Float32[Tensor, "..."]) -> None:
        self.__array_interface__ = piece.numpy().__array_interface__
