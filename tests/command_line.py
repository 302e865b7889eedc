"""What a command left behind, for tests that run console scripts."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
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


def named_in(said: str, participants: Iterable[str], folder: Path) -> set[str]:
    """Give the participants that a command names; ``folder``, where it ran, may hold a number like theirs."""
    return set(re.findall(r"\w+", said.replace(str(folder), ""))) & set(participants)
