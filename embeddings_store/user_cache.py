"""Where things may be kept that can be made again: the user's own cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Give $XDG_CACHE_HOME/octprobe, or ~/.cache/octprobe (XDG Base Directory Specification 0.8)."""
    outer = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(outer) if outer.startswith("/") else Path.home() / ".cache") / "octprobe"
