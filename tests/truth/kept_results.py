"""Outcomes of simulated studies, kept in a file: a long run can be made in pieces and goes on where it ended."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
JUDGED = ("classify", "reports")


class TimeIsUpError(Exception):
    """The time that was given is over; what was measured is kept."""


def digest_of(module: str) -> str:
    """Give a digest of the code that a module judges, and of its own: what was measured of other code is not taken."""
    root = HERE.parents[1]
    paths = [path for package in JUDGED for path in sorted((root / package).rglob("*.py"))]
    own = [HERE / f"{module}.py", HERE / "simulated_scans.py", HERE / "copied_phantom.py"]
    return sha256(b"\0".join(path.read_bytes() for path in [*paths, *own])).hexdigest()[:12]


@dataclass
class Kept:
    """Outcomes of one module's studies by name. path: None keeps nothing; until: moment of time.monotonic.

    only: words of the lines that are wanted; all where there are none.
    """

    path: Path | None = None
    module: str = ""
    until: float = float("inf")
    only: str = ""
    _known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._digest = digest_of(self.module) if self.path else ""
        for line in self.path.read_text().splitlines() if self.path and self.path.exists() else ():
            try:
                raw = json.loads(line)
                if (raw["module"], raw["code"]) == (self.module, self._digest):
                    self._known[raw["study"]] = raw["found"]
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut is measured again

    def wants(self, line: str) -> bool:
        """Return True for a line of a table that was asked for."""
        return self.only in line

    def of(self, study: str, measure: Callable[[], Any]) -> Any:
        """Give what was found of a study, in JSON types, measured now where it is not known. Raises: TimeIsUpError."""
        if study not in self._known:
            if time.monotonic() > self.until:
                raise TimeIsUpError
            self._known[study] = measure()
            if self.path:
                line = {"module": self.module, "code": self._digest, "study": study, "found": self._known[study]}
                with self.path.open("a") as file:
                    file.write(f"{json.dumps(line)}\n")
        return self._known[study]
