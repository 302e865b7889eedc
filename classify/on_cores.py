"""All cores for blocks of numbers: in threads of our own, whose results do not depend on how many there are.

BLAS with several threads sums in another order with each number of them, and where numbers are few, or cores are busy,
its threads wait for each other for longer than they work.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from embeddings_store.machine import usable_cores

T = TypeVar("T")
R = TypeVar("R")

PART_ROWS = 16_384
"""Rows that a thread works on before it takes others: enough to pay for a thread, whatever the number of cores."""


def on_cores(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items side by side, in as many threads as there are cores; results are in order.

    What it calls has to leave Python alone, as NumPy and LightGBM do.
    """
    waiting = list(items)
    if len(waiting) < 2 or (cores := usable_cores()) < 2:  # which reads files: ten times as long as a small item
        return [function(item) for item in waiting]
    with ThreadPoolExecutor(min(cores, len(waiting))) as pool:
        return list(pool.map(function, waiting))


def parts_of(rows: int) -> list[slice]:
    """Cut rows into parts of PART_ROWS, the same on every machine."""
    return [slice(first, min(first + PART_ROWS, rows)) for first in range(0, rows, PART_ROWS)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

    with threadpool_limits(limits=1):
        yield
