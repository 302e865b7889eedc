"""The table of docs/encoders.md: each family's parity with its official code, its cost at full size, its licence.

    python tests/benchmarks/encoder_table.py [--measure retfound,octcube]

Parity is measured on the reference fixtures. With --measure the table has the named families only, and two columns
more: seconds and memory of one volume through random weights of the published size, in a process of its own, on this
machine's CPU with one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from result_file import machine_name

from embeddings_store.grid import Grid
from extract.encoder.architecture import Architecture
from extract.encoder.families import FAMILIES
from extract.encoder.random_init import random_twin

sys.path.insert(0, str(Path(__file__).parents[1] / "extract"))

FULL: dict[str, tuple[Grid, Grid, int, int, int, int]] = {
    "vjepa3d": ((64, 384, 384), (4, 16, 16), 768, 12, 12, 0),
    "vjepa1": ((16, 224, 224), (2, 16, 16), 1024, 24, 16, 0),
    "vjepa2": ((64, 256, 256), (2, 16, 16), 1024, 24, 16, 0),
    "vjepa21": ((64, 384, 384), (2, 16, 16), 768, 12, 12, 0),
    "retfound": ((16, 224, 224), (1, 16, 16), 1024, 24, 16, 1),
    "octcube": ((60, 256, 256), (3, 16, 16), 1024, 24, 16, 1),
    "dinov2": ((16, 224, 224), (1, 14, 14), 1024, 24, 16, 1),
    "dinov2_registers": ((16, 224, 224), (1, 14, 14), 1024, 24, 16, 5),
    "mirage": ((16, 512, 512), (1, 32, 32), 768, 12, 12, 1),
    "visionfm": ((16, 224, 224), (1, 16, 16), 768, 12, 12, 1),
    "dinov3": ((16, 224, 224), (1, 16, 16), 1024, 24, 16, 5),
    "siglip": ((16, 224, 224), (1, 16, 16), 768, 12, 12, 0),
}
"""Published sizes: image, patch, width, depth, heads, prefix tokens."""


MEASURED = ("CPU seconds", "GB")


def parity() -> dict[str, float]:
    """Give the largest deviation of any layer from the official code's, by family."""
    from test_families import CASES, deviations

    found: dict[str, float] = {}
    for case in CASES:
        found[case.family] = max(found.get(case.family, 0.0), *deviations(case).values())
    return found


def measure(family: str) -> dict[str, float]:
    """Give the CPU time of one volume at the published size: others may use the machine."""
    torch.set_num_threads(1)
    encoder = random_twin(full_size(family), 0, family)
    volume = torch.from_numpy(np.zeros((1, 1, *encoder.architecture.image_size), np.float32))
    begun = time.process_time()
    with torch.inference_mode():
        encoder.module(volume)
    seconds = time.process_time() - begun
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def full_size(family: str) -> Architecture:
    """Give the published architecture."""
    image_size, patch, width, depth, heads, prefix = FULL[family]
    return Architecture(family, image_size, patch, width, depth, heads, 4 * width, prefix)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", default="")
    parser.add_argument("--one", default="")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one)))
        return
    deviation = parity()
    measured = asked.measure.split(",") if asked.measure else []
    heads = ("family", "max deviation", "TFLOP a volume", *(MEASURED if measured else ()), "preset", "licence")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name in measured or FAMILIES:
        figures = []
        if measured:
            line = subprocess.run([sys.executable, __file__, "--one", name], check=True, capture_output=True, text=True)
            found = json.loads(line.stdout)
            figures = [f"{found['seconds']:.0f}", f"{found['gb']:.1f}"]
        shown = f"{deviation[name]:.1e}" if name in deviation else "see vjepa3d_tiny"
        flop, kind = full_size(name).flop_per_volume, FAMILIES[name]
        cells = (f"`{name}`", shown, f"{flop / 1e12:.1f}", *figures, kind.preset, kind.card.describe_terms())
        print(f"| {' | '.join(map(str, cells))} |")
    if measured:
        load = os.getloadavg()[0]
        busy = f", busy with other work (load average {load:.1f})" if load > 1 else ""
        print(f"\nMeasured on {machine_name()}{busy}, torch {torch.__version__}, {date.today().isoformat()}.")


if __name__ == "__main__":
    main()
