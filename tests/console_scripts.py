"""The console scripts as this source names them: those that are installed may be of another checkout."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "pyproject.toml"


def console_scripts() -> list[EntryPoint]:
    """Read them from pyproject.toml."""
    scripts = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["project"]["scripts"]
    return [EntryPoint(name, value, "console_scripts") for name, value in scripts.items()]
