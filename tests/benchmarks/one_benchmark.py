"""Run one bench module in this process, whose environment pins the threads, and write its rows as JSON."""

import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from settings import Settings


def main(module: str, settings: str, out: str) -> None:
    """Measure, and write what result_file adds to the results: rows and the circumstances."""
    chosen = Settings(**json.loads(settings))
    before = os.getloadavg()[0]
    rows = importlib.import_module(module).measure(chosen)
    if chosen.quick:  # goals are set for full sizes
        rows = [replace(row, goal=None) for row in rows]
    load = {"before": round(before, 2), "after": round(os.getloadavg()[0], 2)}
    circumstances = {"bench": module, "threads": chosen.threads, "full": chosen.full, "load_average": load}
    measured = [row.to_dict() | circumstances for row in rows]
    Path(out).write_text(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
