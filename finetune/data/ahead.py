"""Reading ahead: many volumes in flight within a budget of bytes, so that memory stays flat."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

from embeddings_store.storage import droppable_pool

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Result],
    *,
    threads: int,
    budget_bytes: int,
    cost_bytes: Callable[[Item], int],
) -> Iterator[Result]:
    """Yield load(item) of every item, in the order in which they finish.

    At most ``threads`` loads are in flight, and the costs of those in flight stay within ``budget_bytes``
    (one item always may be, however large). An exception of ``load`` is raised here; loads that have not
    begun are then dropped.
    """
    waiting = deque(items)
    in_flight: dict[Future[Result], int] = {}
    with droppable_pool(threads) as pool:
        while waiting or in_flight:
            while waiting and len(in_flight) < threads:
                cost = cost_bytes(waiting[0])
                if in_flight and sum(in_flight.values()) + cost > budget_bytes:
                    break
                in_flight[pool.submit(load, waiting.popleft())] = cost
            finished, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for future in finished:
                del in_flight[future]
                yield future.result()
