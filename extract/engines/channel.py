"""What hands volumes from stage to stage between threads: it can end, and it can be given up, from both sides."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class GivenUpError(Exception):
    """Nobody will take, or make room for, anything any more."""


class Channel(Generic[Item]):
    """A queue of at most ``capacity`` items that ends when each of its ``makers`` has left. Thread-safe.

    Iterating takes items, from as many threads as one likes, until the channel has ended or was given up.
    """

    def __init__(self, *, makers: int, capacity: int | None = None) -> None:
        self._items: deque[Item] = deque()
        self._makers = makers
        self._capacity = capacity
        self._given_up = False
        self._changed = Condition()

    def put(self, item: Item) -> None:
        """Hand an item on; wait while the channel is full. Raises GivenUpError."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._given_up or self._capacity is None or len(self._items) < self._capacity
            )
            if self._given_up:
                raise GivenUpError
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Take items until there will be none."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given_up or self._items or not self._makers)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # or it would be held until the next one comes

    def leave(self) -> None:
        """Note that one of the makers will put nothing more."""
        with self._changed:
            self._makers -= 1
            self._changed.notify_all()

    def give_up(self) -> None:
        """Drop what was not taken; nobody waits here any longer."""
        with self._changed:
            self._given_up = True
            self._items.clear()
            self._changed.notify_all()
