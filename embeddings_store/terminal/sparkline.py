"""A curve as wide as a word, for a line on a terminal."""

import math
import sys
from collections.abc import Sequence

from embeddings_store.terminal.console import is_watched

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 24


def sparkline(values: Sequence[float | None]) -> str:
    """Draw the last values from the lowest to the highest of them; a value that is absent or not finite is a gap.

    "" where nobody watches (a log, a pipe), the terminal lacks the signs, or there are fewer than two values.
    """
    shown = [value if value is not None and math.isfinite(value) else None for value in values[-MOST_BARS:]]
    known = [value for value in shown if value is not None]
    if len(known) < 2 or not _can_draw():
        return ""
    low, high = min(known), max(known)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(" " if value is None else BARS[round((value - low) / step)] for value in shown)


def _can_draw() -> bool:
    try:
        BARS.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return is_watched()
