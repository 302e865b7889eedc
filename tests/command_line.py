"""What a command left behind, for tests that run console scripts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        record: dict[str, Any] = json.loads(self.stdout)
        return record


Command = Callable[..., Finished]
