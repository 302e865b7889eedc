"""One iterator for several threads, each of which takes the next item."""

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")


class SharedIterator(Generic[Item]):
    """Gives each item to one thread; while one waits for an item, the others wait their turn."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._turn = Lock()

    def __iter__(self) -> Iterator[Item]:
        """Give the one iterator there is."""
        return self

    def __next__(self) -> Item:
        """Take the next item."""
        with self._turn:
            return next(self._items)
