"""What a command left behind, for tests that run console scripts."""

import json
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from console_scripts import console_scripts


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


def run_here(name: str, *arguments: object) -> Finished:
    """Run a console script inside this process; tests have it as ``command``, fixtures of a module by this name."""
    script = next(script for script in console_scripts() if script.name == name)
    out, err = StringIO(), StringIO()
    typed = patch.object(sys, "argv", [name, *map(str, arguments)])
    with typed, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        script.load()()
    return Finished(int(left.value.code or 0), out.getvalue(), err.getvalue())


NUMBER = re.compile(r"(?<![A-Za-z0-9])(?<!\d\.)\d+(?![A-Za-z0-9])")
"""Part of a file's name too, but neither of a checksum nor of a fraction."""


def named_in(said: str, participants: Iterable[str], folder: Path) -> set[str]:
    """Give the participants that a command names; ``folder``, where it ran, may hold a number like theirs."""
    return set(NUMBER.findall(said.replace(str(folder), ""))) & set(participants)
