"""Memory that inputs are made in: used again as soon as nothing lies in it, and never before."""

import gc
from threading import Thread

import numpy as np
import torch

from extract.device.host_ring import HostRing


def new_ring() -> HostRing:
    return HostRing(lambda size: torch.zeros(size, dtype=torch.uint8))


def test_a_piece_is_lent_again_when_its_last_view_is_gone() -> None:
    ring = new_ring()
    first = ring.take((2, 3))
    first[:] = 7
    view = first[None][:, 1]
    del first
    assert ring.pieces == 1
    second = ring.take((2, 3))
    assert ring.pieces == 2, "a view of the first piece is alive"
    assert (view == 7).all()
    del view
    third = ring.take((3, 2))
    assert ring.pieces == 2
    assert (third == 7).all(), "the memory of the first"
    assert not np.shares_memory(second, third)
    assert ring.take((4,)).nbytes == 16
    assert ring.pieces == 3


def test_a_tensor_of_an_array_keeps_its_piece() -> None:
    ring = new_ring()
    tensor = torch.from_numpy(ring.take((5,)))
    gc.collect()
    ring.take((5,))
    assert ring.pieces == 2
    del tensor
    ring.take((5,))
    assert ring.pieces == 2


def test_many_threads_never_share_a_piece() -> None:
    ring, clashes = new_ring(), []

    def work(number: int) -> None:
        for _ in range(300):
            mine = ring.take((64,))
            mine[:] = number
            if not (mine == number).all():
                clashes.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert ring.pieces <= 8  # a new one is taken before the old one is let go
