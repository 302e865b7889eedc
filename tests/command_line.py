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


NUMBER = re.compile(r"(?<![A-Za-z0-9])(?<!\d\.)\d+(?![A-Za-z0-9])")
"""Part of a file's name too, but neither of a checksum nor of a fraction."""


def named_in(said: str, participants: Iterable[str], folder: Path) -> set[str]:
    """Give the participants that a command names; ``folder``, where it ran, may hold a number like theirs."""
    return set(NUMBER.findall(said.replace(str(folder), ""))) & set(participants)
