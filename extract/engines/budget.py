"""How much may be in flight at once, in bytes and in volumes, so that memory stays flat however long the bucket is."""

from threading import Condition

from extract.engines.channel import GivenUpError


class Budget:
    """Room for bytes and volumes. One volume always fits, however large. Thread-safe."""

    def __init__(self, size_bytes: int, volumes: int) -> None:
        self._size_bytes, self._volumes = size_bytes, volumes
        self._held_bytes = self._held_volumes = 0
        self._given_up = False
        self._changed = Condition()

    def take(self, size_bytes: int) -> None:
        """Wait for room for one volume, and hold it. Raises GivenUpError."""
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._fits(size_bytes))
            if self._given_up:
                raise GivenUpError
            self._held_bytes += size_bytes
            self._held_volumes += 1

    def give_back(self, size_bytes: int, *, volumes: int = 0) -> None:
        """Let go of bytes, and of volumes that are through."""
        with self._changed:
            self._held_bytes -= size_bytes
            self._held_volumes -= volumes
            self._changed.notify_all()

    def give_up(self) -> None:
        """Let nobody wait here any longer."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        if not self._held_volumes:
            return True
        return self._held_volumes < self._volumes and self._held_bytes + size_bytes <= self._size_bytes
