"""When an object is given up: after several tries, one after the other, that brought next to nothing."""

from time import monotonic

ATTEMPTS = 6
PROGRESS_BYTES, PROGRESS_S = 1 << 20, 30.0  # a connection that brought so much, or went on for so long, did its part


class Tries:
    """The tries of one object."""

    def __init__(self) -> None:
        self.asked = self.fruitless = 0
        self._began = monotonic()

    @property
    def are_over(self) -> bool:
        """Tell whether the object is given up."""
        return self.fruitless >= ATTEMPTS

    def begin(self) -> bool:
        """Note a request; tell whether it repeats an earlier one."""
        self.asked, self._began = self.asked + 1, monotonic()
        return self.asked > 1

    def end(self, brought_bytes: int) -> None:
        """Note what a try brought that did not bring all."""
        lasted = brought_bytes > 0 and monotonic() - self._began >= PROGRESS_S
        self.fruitless = 0 if brought_bytes >= PROGRESS_BYTES or lasted else self.fruitless + 1
